"""Models in memory for the API, with class names, batches across requests, instant previews.

May import `core.clip`, `core.store` and the modules of `core`; `worker` never imports it.
"""
