"""GET /jobs/{id}/report."""
