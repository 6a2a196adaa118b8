"""Changes of the tables, one file each. `python -m core.store.migrate` runs them."""
