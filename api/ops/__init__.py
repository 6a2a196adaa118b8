"""Health, readiness, metrics and the state of the runtime. Imports `deps` and below."""
