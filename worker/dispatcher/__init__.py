"""The dispatcher process: wake-ups, expired leases, webhook deliveries, deletions, retention."""
