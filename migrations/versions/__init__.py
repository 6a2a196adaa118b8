"""One file per revision, each for SQLite and PostgreSQL.

May import alembic and sqlalchemy only, so that later changes of the code do not affect it.
"""
