"""What the service does, with neither HTTP (api/) nor Celery (worker/)."""
