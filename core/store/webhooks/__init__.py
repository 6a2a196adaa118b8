"""Deliveries of webhooks and their secrets. Imports `jobs` and below."""
