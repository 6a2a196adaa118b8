"""The dispatcher process: wake-ups, expired leases, webhook deliveries, deletions, retention.

May import `core.store`, the modules of `core` and `worker.metrics`.
"""
