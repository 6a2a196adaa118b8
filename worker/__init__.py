"""Celery worker: one task that claims a training job, runs it and records the result.

May import `core` without `core.serving`, but not `api` or `clipcite`.
"""
