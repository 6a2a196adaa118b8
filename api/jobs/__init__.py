"""Resource `/jobs` with `POST /adapt`: uploads, preflight, training jobs and their events."""
