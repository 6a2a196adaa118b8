"""The method, the store, serving, and modules shared by all processes, such as settings.

May import neither `api`, `worker` nor `clipcite`.
"""
