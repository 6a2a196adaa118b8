"""Celery and nothing else: a task claims a job, calls core, records what happened."""
