"""The method, the store, serving, and modules that all processes share, such as settings.

May not import `api`, `worker` or `clipcite`.
"""
