"""The trainer process and its supervisor in the worker.

May import `core.errors`, `core.scratch` and `core.parent_watch`; `__main__` alone imports the training of
`core.clip`.
"""
