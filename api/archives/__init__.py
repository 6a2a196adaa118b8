"""Uploaded archives, read within limits. Imports nothing else of `api`."""
