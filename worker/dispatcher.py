"""`python -m worker.dispatcher`: sends what is due, takes back what a dead worker held, sweeps.

Any number of these may run: the database lets each row be taken by one of them.
"""

import logging
import signal
import threading
import time
from datetime import UTC, datetime, timedelta

import celery

from core.clip.errors import ClipCiteError
from core.leash import end_with_parent
from core.log import start_logging
from core.settings import Settings, get_settings
from core.store import jobs, models
from core.store.blobs import Blobs
from core.store.errors import JobNotFound, ModelNotFound
from core.store.queue import make_celery, send_adapt, waiting
from core.store.session import Database
from core.store.tables import QUEUED

logger = logging.getLogger("worker.dispatcher")
SWEEP_SECONDS = 3_600
ORPHAN_AGE = timedelta(hours=24)


def dispatch(
    settings: Settings, database: Database, app: celery.Celery, *, after_sleep: bool = False
) -> list[str]:
    """One round: returns the ids that were sent. The commit comes first: if we die between it and
    the sending, the rows are due again after `redispatch_seconds`.

    After the machine was asleep every lease looks expired; the workers get a while to renew them.
    """
    with database.write() as session:
        for job in () if after_sleep else jobs.expire_leases(session, max_attempts=settings.max_attempts):
            logger.warning("%s: its worker was lost; now %s", job.id, job.status)
    with database.read() as session:
        queued, _ = jobs.list_page(session, status=QUEUED, limit=1)
    if not queued:
        return []  # nothing to ask the broker for
    if waiting(app) >= settings.dispatch_ahead:
        return []  # the worker is busy; what is sent again now would only pile up
    with database.write() as session:
        due = jobs.take_due(
            session, redispatch_seconds=settings.redispatch_seconds, ahead=settings.dispatch_ahead
        )
    for job_id in due:
        send_adapt(app, job_id)
    return due


def sweep(database: Database, blobs: Blobs, *, age: timedelta = ORPHAN_AGE) -> list[str]:
    """Remove blobs that no row owns and that are older than any request or publication may take."""
    old = datetime.now(UTC) - age
    owners = {b.key.rpartition("/")[0] for b in blobs.list("") if b.modified < old}
    orphans = [owner for owner in sorted(owners) if not _is_owned(database, owner)]
    if orphans and len(orphans) == len(owners):
        # More likely another database (a restored or an empty one) than nothing but orphans.
        logger.warning("Nobody owns any of the %d stored folders; none is swept", len(owners))
        return []
    for owner in orphans:
        blobs.delete_prefix(owner)
        logger.info("%s: swept, nobody owns it", owner)
    return orphans


def _is_owned(database: Database, owner: str) -> bool:
    """Whether a job or model of this name exists. A probe's leftovers belong to nobody."""
    kind, _, identifier = owner.partition("/")
    try:
        with database.read() as session:
            if kind == "jobs":
                jobs.get(session, identifier)
            elif kind == "models":
                models.get(session, identifier)
            return not kind.startswith("probe-")
    except (JobNotFound, ModelNotFound):
        return False


def main() -> None:
    start_logging()
    settings = get_settings()
    if settings.leashed:
        end_with_parent(grace_seconds=8)
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    database = Database(settings.sqlalchemy_url())
    blobs = Blobs(settings.blobs_url())
    app = make_celery(settings)
    rounds = 0
    patience = 0.0
    wall, steady = time.time(), time.monotonic()
    while not stop.is_set():
        # The steady clock stands still while a machine sleeps.
        slept = (time.time() - wall) - (time.monotonic() - steady)
        wall, steady = time.time(), time.monotonic()
        if slept > settings.lease_seconds / 2:
            patience = steady + settings.lease_seconds
        try:
            dispatch(settings, database, app, after_sleep=steady < patience)
            if rounds % max(1, round(SWEEP_SECONDS / settings.dispatch_seconds)) == 0:
                sweep(database, blobs)
        except ClipCiteError as error:
            logger.warning("%s: %s", error.code, error)
        except Exception:
            logger.exception("A round failed; the next one comes")
        rounds += 1
        stop.wait(settings.dispatch_seconds)
    database.close()


if __name__ == "__main__":
    main()
