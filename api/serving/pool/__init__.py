"""Models in memory: loaded once, shared by requests, evicted to stay within a budget of bytes.

May import `core` and `api.serving.types`.
"""
