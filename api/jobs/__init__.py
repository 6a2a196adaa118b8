"""POST /adapt and /jobs: uploads, training jobs, their events. Imports `archives`, `deps` and below."""
