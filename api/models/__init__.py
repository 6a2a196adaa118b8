"""Resource `/models`: list, rename, delete, export, import and extend models."""
