"""Resource `/jobs` with `POST /adapt`: uploads, preflight, training jobs and their events.

May import `api.archives`, `api.deps`, the modules below them and `core`.
"""
