"""Owners, API keys and idempotency keys."""
