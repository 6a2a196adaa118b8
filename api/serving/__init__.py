"""Models in memory for the API, with class names, batches across requests, instant previews.

May import `core` and `clipcite.types`, but no other part of `api`, and no HTTP.
"""
