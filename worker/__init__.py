"""Celery worker: one task that claims a training job, runs it and records the result."""
