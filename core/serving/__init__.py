"""Warm models for /classify."""
