"""Health, readiness, metrics and the state of the runtime.

May import `api.deps`, `api.middleware`, the modules below them and `core`.
"""
