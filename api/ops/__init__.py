"""Health, readiness and metrics.

May import `api.deps`, `api.middleware`, the modules below them and `core`.
"""
