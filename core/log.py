"""What the processes print: our own words and warnings of others."""

import logging

OURS = ("api", "worker", "core", "celery.worker", "celery.apps.worker", "uvicorn.error")


def start_logging() -> None:
    """Call once, first thing in a process. Libraries that narrate (open_clip, alembic, an access log
    line per poll) are kept to warnings."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"
    )
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
