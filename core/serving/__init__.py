"""Classification for the API: the model pool, batching across requests, instant previews, exports.

May import `core.clip`, `core.store` and the modules of `core`; `worker` never imports it.
"""
