"""`python -m worker`: one Celery worker with one slot. Start one for each GPU."""

import logging
import os

from core.leash import end_with_parent
from core.settings import get_settings


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if get_settings().leashed:
        end_with_parent(grace_seconds=8)
    from worker.app import app

    app.worker_main(
        [
            "worker",
            "--loglevel=INFO",
            f"--hostname=adapt-{os.getpid()}@%h",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )


if __name__ == "__main__":
    main()
