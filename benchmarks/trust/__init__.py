"""Whether the reports can be trusted."""
