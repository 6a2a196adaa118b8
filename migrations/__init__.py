"""Alembic migrations of the tables, run by `python -m core.store.db.migrate`.

May import `core.store.db` and `core.settings`.
"""
