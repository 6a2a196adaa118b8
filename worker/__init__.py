"""Celery: one task that claims a training job, trains it and records the result.

May import `core` except `core.serving`, and neither `api` nor `clipcite`.
"""
