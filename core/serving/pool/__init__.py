"""Models in memory: loaded once, shared by requests, evicted under a budget of bytes.

May import `core.clip`, `core.store` and `core.serving.types`.
"""
