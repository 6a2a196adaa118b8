"""Alembic's migrations of the tables; `python -m core.store.db.migrate` runs them.

May import `core.store.db` and `core.settings`.
"""
