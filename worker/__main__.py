"""`python -m worker`: a Celery worker that runs one job at a time. Start one per GPU.

`clipcite serve` adds `--dispatch`: then a thread of this process is the dispatcher.
"""

import os
import sys
import warnings
from contextlib import nullcontext

from celery import signals

from core.log import start_logging
from core.parent_watch import exit_with_parent, is_child
from core.scratch import sweep_scratch
from core.settings import get_settings
from core.store.db.session import Database
from worker.dispatcher.__main__ import beside_the_worker


def main() -> None:
    settings = get_settings()
    start_logging(settings)
    # Celery warns about root because of pickled messages. This worker accepts only JSON.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
    if is_child():
        exit_with_parent(grace_seconds=8)
    error = Database(settings.sqlalchemy_url()).startup_error()
    if error is not None:
        sys.exit(error)
    sweep_scratch(settings.scratch())
    from worker.celery_app import app

    with beside_the_worker(settings) if "--dispatch" in sys.argv else nullcontext() as stop:
        if stop is not None:  # stop while the worker requeues its job, because both take seconds
            signals.worker_shutting_down.connect(lambda **_: stop.set(), weak=False)
        app.worker_main(
            [
                "--quiet",  # no banner
                "worker",
                f"--hostname=adapt-{os.getpid()}@%h",
                "--without-gossip",
                "--without-mingle",
                "--without-heartbeat",
            ]
        )


if __name__ == "__main__":
    main()
