"""The method, the store, and modules that all processes share, such as settings.

May not import `api`, `worker` or `clipcite`.
"""
