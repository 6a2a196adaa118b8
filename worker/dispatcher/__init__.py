"""The dispatcher process: wake-ups, expired leases, webhook deliveries, garbage collection.

May import `core.store`, the modules of `core` and `worker.metrics`.
"""
