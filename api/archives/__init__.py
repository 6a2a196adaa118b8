"""Reading of uploaded zip archives within safety limits."""
