"""The dispatcher's process: wake-ups, garbage, webhooks. Imports `core.store` and `worker.metrics`."""
