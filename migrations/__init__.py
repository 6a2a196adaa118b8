"""Changes of the tables, one file each. `python -m core.store.db.migrate` runs them."""
