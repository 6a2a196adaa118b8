"""Classification for the API: models in memory, batching, previews, exports.

Imports `core.clip` and `core.store`.
"""
