"""Owners, API keys and idempotency keys. May import `storage` and the layers below it."""
