"""Limits that protect the service and its users from each other."""
