"""Models in memory: loaded once, shared by requests, evicted under a budget of bytes.

May import `core.clip`, `core.store` and the modules of `core.serving` that hold plain data. Only the engine
imports `model_pool`.
"""
