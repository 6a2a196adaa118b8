"""The method, the store, serving, and modules that every process needs, such as settings.

May import neither `api`, `worker` nor `clipcite`.
"""
