"""Tables, sessions, engines, migrations and pagination.

May import `core.store.errors` and `core.settings`, no other part of `core.store`.
"""
