"""One file per revision, each for SQLite and PostgreSQL."""
