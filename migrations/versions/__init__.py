"""Each file leads from one revision to the next, on SQLite and on PostgreSQL."""
