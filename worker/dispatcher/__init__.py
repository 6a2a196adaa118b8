"""The dispatcher process: wake-ups, expired leases, garbage collection, webhooks.

May import `core.store`, the modules of `core` and `worker.metrics`.
"""
