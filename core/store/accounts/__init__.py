"""Owners, their API keys, quotas and idempotency keys. Imports `storage` and below."""
