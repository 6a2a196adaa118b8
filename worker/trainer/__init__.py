"""The trainer's process and its supervision. Only `__main__` imports `core.clip`'s training."""
