"""The Celery application and its only task."""

import logging
import os
import socket

from celery import Task, signals

from core.log import about
from core.metrics import new_registry, show_metrics
from core.settings import get_settings
from core.store.db.session import Database
from core.store.jobs.queue import ADAPT_TASK, make_celery
from core.store.storage.blobs import Blobs
from worker.job_runner import JobRunner
from worker.metrics import WorkerMetrics

logger = logging.getLogger(__name__)
settings = get_settings()
app = make_celery(settings)
registry = new_registry()


class AdaptTask(Task):  # type: ignore[misc]  # celery has no types
    """The task that runs a training job."""

    name = ADAPT_TASK
    runner: JobRunner
    """Set when the worker starts."""

    def run(self, job_id: str) -> None:
        with about(job_id=job_id):
            self.runner.run(job_id)


app.register_task(AdaptTask())


@signals.worker_init.connect  # type: ignore[untyped-decorator]  # celery has no types
def _make_runner(**_: object) -> None:
    """Create the runner. It starts a trainer. An error ends the process: Celery would only log it."""
    try:
        database = Database(settings.sqlalchemy_url())
        name = f"{socket.gethostname()}:{os.getpid()}"
        AdaptTask.runner = JobRunner(
            settings, database, Blobs.of(settings), name=name, metrics=WorkerMetrics(registry)
        )
    except Exception as error:
        logger.exception("The worker can't start")
        raise SystemExit(1) from error


@signals.worker_ready.connect  # type: ignore[untyped-decorator]  # celery has no types
def _ready(**_: object) -> None:
    if settings.metrics_port is not None:
        show_metrics(registry, settings.metrics_host, settings.metrics_port)


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]  # celery has no types
def _drain(**_: object) -> None:
    """Requeue the job on SIGTERM, because Celery waits until its task ends."""
    AdaptTask.runner.draining.set()
