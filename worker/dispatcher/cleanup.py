"""Cleanup by the database's clock: due deletions, and retention. Any number of processes may do it."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from clipcite.types.jobs import FINAL
from core.errors import ExpectedError
from core.settings import Settings
from core.store import piles
from core.store.accounts import idempotency
from core.store.db.session import Database, database_now
from core.store.db.tables import Job, Model
from core.store.jobs import jobs
from core.store.storage import deletions, installation
from core.store.storage.blobs import Blobs

logger = logging.getLogger("worker.dispatcher.cleanup")
RETENTION_SECONDS = 3_600.0
"""Interval between rounds of retention (seconds). The first round starts after the same time."""
DELETIONS_SECONDS = 60.0
"""Interval between rounds of deletions (seconds)."""
RETENTION_PAUSE_SECONDS = 0.2
"""Pause between batches of retention (seconds). It lets other processes write to SQLite."""
BATCH, PILES_BATCH = 50, 1
"""Maximum number of jobs and of piles that one transaction deletes. A pile has up to 220,000 rows."""
CLOCK_STEP, CLOCK_LEAD = timedelta(hours=1), timedelta(days=1)
"""Largest step of the trusted time, and largest lead over it at which the clock is trusted."""


def enforce_retention(
    settings: Settings,
    database: Database,
    blobs: Blobs,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> int:
    """Delete jobs that ended more than `settings.keep_days` ago, and piles that nobody used for
    `settings.pile_days`, in batches. Return their number.

    Nothing is deleted while the clock is not trusted.
    """
    deleted = 0
    with database.write() as session:
        if not trusts_clock(session):
            _warn_of_clock(session)
            return 0
    kinds = (
        ("jobs", settings.keep_days, _delete_jobs, BATCH),
        ("piles", settings.pile_days, piles.delete_unused, PILES_BATCH),
    )
    for kind, days, delete, batch in kinds:
        count = 0
        while days and not should_stop():
            with database.write() as session:
                gone = delete(session, timedelta(days=days), batch)
            if not gone:
                break
            count += len(gone)
            for prefix in gone:
                deletions.finish(database, blobs, prefix)
        if count:
            logger.info("retention: %s older than %d days deleted (%d)", kind, days, count)
        deleted += count
    return deleted


def finish_deletions(
    database: Database, blobs: Blobs, *, should_stop: Callable[[], bool] = lambda: False
) -> list[str]:
    """Delete what is due, and remove expired idempotency keys. Return the deleted prefixes."""
    with database.write() as session:
        trusted = trusts_clock(session)
        if trusted:
            idempotency.forget_old(session)
        due = deletions.take_due(session, trusts_clock=trusted)
    finished = []
    for prefix in due:
        if should_stop():
            break
        try:
            if not deletions.finish(database, blobs, prefix):
                break
        except ExpectedError as error:  # other deletions may succeed
            logger.warning("%s: %s", prefix, error)
            continue
        logger.info("%s: deleted", prefix)
        finished.append(prefix)
    return finished


def trusts_clock(session: Session) -> bool:
    """Return whether the clock is at most CLOCK_LEAD ahead of the trusted time. Only then may it decide age.

    The trusted time follows the clock by at most CLOCK_STEP per call, and each dispatcher calls once a
    minute. So a clock that is briefly set ahead deletes nothing. After a pause of the service, a correct
    clock is trusted again soon: after 3 hours for a pause of a week.
    """
    row = installation.find(session, lock=True)
    now = database_now(session)
    trusted = row.clock_at or _newest(session)
    row.clock_at = min(now, trusted + CLOCK_STEP)
    session.flush()
    return now <= trusted + CLOCK_LEAD


def _warn_of_clock(session: Session) -> None:
    """Log why nothing is deleted."""
    row = installation.find(session)
    logger.warning(
        "The clock is far ahead of %s, when this service last ran, so old data is not deleted. Correct the "
        "clock if it is wrong. If it is right, for example after a long pause, wait: each hour of the pause "
        "takes a minute.",
        row.clock_at and row.clock_at.isoformat(timespec="minutes"),
    )


def _newest(session: Session) -> datetime:
    """Return the time of the newest row, for use before any dispatcher has stored a time."""
    times = [session.scalar(select(func.max(at))) for at in (Job.created_at, Model.created_at)]
    return max(time for time in (*times, installation.find(session).created_at) if time is not None)


def _delete_jobs(session: Session, older_than: timedelta, batch: int) -> list[str]:
    """Delete a batch of jobs that ended longer ago. Return the folders to delete after the commit."""
    before = database_now(session) - older_than
    old = session.scalars(
        select(Job)
        .where(Job.finished_at < before, Job.status.in_(FINAL))
        .order_by(Job.finished_at)
        .limit(batch)
        .with_for_update(skip_locked=True)
    ).all()
    for job in old:
        session.delete(job)  # foreign keys cascade to images, events and deliveries
        deletions.mark_for_deletion(session, jobs.blobs_of(job.id))
    return [jobs.blobs_of(job.id) for job in old]


class Cleaner:
    """A thread for deletions and retention, so that slow storage does not delay dispatching."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        blobs: Blobs,
        *,
        guard: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Create a cleaner.

        Args:
            guard: returns a context manager that handles the errors of a part of a round.
        """
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._guard = guard
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cleanup", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Stop the thread, and wait for at most this time. An interrupted deletion is repeated later."""
        self._stop.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        with self._guard():
            installation.check(self._database, self._blobs, bind=True)
        enforced = time.monotonic()
        while not self._stop.is_set():
            with self._guard():
                finish_deletions(self._database, self._blobs, should_stop=self._stop.is_set)
            if time.monotonic() >= enforced + RETENTION_SECONDS:
                with self._guard():
                    enforce_retention(
                        self._settings,
                        self._database,
                        self._blobs,
                        should_stop=partial(self._stop.wait, RETENTION_PAUSE_SECONDS),
                    )
                enforced = time.monotonic()
            self._stop.wait(DELETIONS_SECONDS)
