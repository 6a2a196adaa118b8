"""Loaded models in memory: what is kept, evicted, unavailable. Imported by `core.serving` only."""
