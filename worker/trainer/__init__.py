"""The trainer process and its supervisor in the worker.

May import `core.errors`, `core.scratch` and `core.parent_watch`. Only `__main__` and `precision` import
`core.clip`.
"""
