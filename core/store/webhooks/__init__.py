"""Webhook secrets and deliveries. May import `jobs` and the layers below it."""
