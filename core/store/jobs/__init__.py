"""Training jobs: rows, life cycle, queue and broker."""
