"""`python -m worker.dispatcher`: send wake-ups, expire leases, deliver webhooks, delete, download backbones.

Any number of dispatchers may run. The database gives each row to only one of them.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import celery
from prometheus_client import CollectorRegistry

from core.errors import ExpectedError
from core.log import about, start_logging
from core.metrics import BacklogCollector, new_registry, show_metrics
from core.settings import Settings, get_settings
from core.store.db.session import Database
from core.store.jobs import fair_queue, jobs, lifecycle
from core.store.jobs.queue import make_celery, send_adapt, waiting
from core.store.storage.blobs import Blobs
from worker.dispatcher.backbones import Downloads
from worker.dispatcher.cleanup import Cleaner
from worker.dispatcher.webhooks import Webhooks
from worker.metrics import DispatcherMetrics

logger = logging.getLogger("worker.dispatcher")
MAX_AHEAD = 4
"""Maximum number of wake-ups in transit. Other jobs wait in the database, in fair order."""
LAST_WORDS_SECONDS = 2
"""Time that webhook deliveries and a deletion have to finish at shutdown."""


def dispatch(
    settings: Settings,
    database: Database,
    app: celery.Celery,
    *,
    after_sleep: bool = False,
    metrics: DispatcherMetrics | None = None,
) -> list[str]:
    """Run one round. Return the ids of the jobs whose wake-up was sent.

    Rows are committed before wake-ups are sent. If the process dies in between, the rows are due again after
    `redispatch_seconds`.

    Args:
        after_sleep: do not expire leases. After the machine was suspended, every lease looks expired, and
            workers need time to renew them.
    """
    metrics = metrics or DispatcherMetrics(CollectorRegistry())
    if not after_sleep:
        with database.write() as session:
            lost = lifecycle.expire_leases(
                session, max_attempts=settings.max_attempts, lease_seconds=settings.lease_seconds
            )
        for job in lost:
            metrics.lease_expiries.labels(job.status).inc()
            with about(job_id=job.id):
                logger.warning("%s: the lease expired; the job is now %s", job.id, job.status)
    with database.read() as session:
        if not jobs.any_queued(session):
            return []
    if waiting(app) >= MAX_AHEAD:
        return []  # the workers are busy, and more wake-ups would only pile up
    with database.write() as session:
        due = fair_queue.take_due(
            session,
            redispatch_seconds=settings.redispatch_seconds,
            ahead=MAX_AHEAD,
            max_running=settings.max_running_jobs,
        )
    for job_id in due:
        send_adapt(app, job_id)
    return due


@contextmanager
def log_errors(metrics: DispatcherMetrics) -> Iterator[None]:
    """Log and count an error in a part of a round, so that other parts still run."""
    try:
        yield
    except ExpectedError as error:
        metrics.errors.labels(error.code).inc()
        logger.warning("%s: %s", error.code, error)
    except Exception:
        metrics.errors.labels("internal_error").inc()
        logger.exception("A part of the round failed. The next round tries again.")


def run(settings: Settings, database: Database, stop: threading.Event) -> None:
    """Run rounds until `stop` is set."""
    blobs = Blobs.of(settings)
    app = make_celery(settings)
    registry = new_registry()
    registry.register(BacklogCollector(database, redispatch_seconds=settings.redispatch_seconds))
    metrics = DispatcherMetrics(registry)
    if settings.metrics_port is not None:
        show_metrics(registry, settings.metrics_host, settings.metrics_port + 1)
    webhooks = Webhooks(settings, database, metrics)
    cleaner = Cleaner(settings, database, blobs, guard=partial(log_errors, metrics))
    cleaner.start()
    downloads = Downloads(settings, database)
    with log_errors(metrics), database.write() as session:
        fair_queue.forget_sent(session)
    grace_until = 0.0
    wall, steady = time.time(), time.monotonic()
    while not stop.is_set():
        # The monotonic clock stops while the machine is suspended.
        slept = (time.time() - wall) - (time.monotonic() - steady)
        wall, steady = time.time(), time.monotonic()
        if slept > settings.lease_seconds / 2:
            grace_until = steady + settings.lease_seconds
        with log_errors(metrics):
            dispatch(settings, database, app, after_sleep=steady < grace_until, metrics=metrics)
        with log_errors(metrics):
            webhooks.round()
        with log_errors(metrics):
            downloads.round()
        stop.wait(settings.dispatch_seconds)
    downloads.stop()
    cleaner.stop(LAST_WORDS_SECONDS)
    webhooks.wait(LAST_WORDS_SECONDS)
    database.close()


@contextmanager
def beside_the_worker(settings: Settings) -> Iterator[threading.Event]:
    """Run the dispatcher in a thread until the context ends, or until the yielded event is set.

    If the thread fails, the process ends and is restarted, because no job starts without a dispatcher.
    """
    stop = threading.Event()

    def dispatch_until_stopped() -> None:
        try:
            run(settings, Database(settings.sqlalchemy_url()), stop)
        except Exception:
            logger.exception("The dispatcher can't run")
            os._exit(1)

    thread = threading.Thread(target=dispatch_until_stopped, name="dispatcher", daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(2 * LAST_WORDS_SECONDS)


def main() -> None:
    settings = get_settings()
    start_logging(settings)
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    database = Database(settings.sqlalchemy_url())
    error = database.startup_error()
    if error is not None:
        sys.exit(error)
    run(settings, database, stop)


if __name__ == "__main__":
    main()
