"""Owners, API keys, quotas and idempotency keys. May import `storage` and the layers below it."""
