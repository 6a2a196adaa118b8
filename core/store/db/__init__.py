"""Tables, sessions, engines, migrations and pagination.

May import `core.store.errors` and `core.settings`, but nothing else of `core.store`.
"""
