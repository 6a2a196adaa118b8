"""Alembic migrations of the tables, run by `python -m core.store.db.migrate`."""
