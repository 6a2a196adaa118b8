"""Cleanup: due deletions, and retention. Any number of processes may do it."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial

from core.errors import ClipCiteError
from core.settings import Settings
from core.store import retention
from core.store.accounts import idempotency
from core.store.db.session import Database
from core.store.storage import deletions, installation
from core.store.storage.blobs import Blobs

logger = logging.getLogger("worker.dispatcher.cleanup")
RETENTION_SECONDS = 3_600.0
"""Interval between rounds of retention (seconds). The first round starts after the same time."""
DELETIONS_SECONDS = 60.0
"""Interval between rounds of deletions (seconds)."""
RETENTION_PAUSE_SECONDS = 0.2
"""Pause between batches of retention (seconds). It lets other processes write to SQLite."""


def enforce_retention(
    settings: Settings,
    database: Database,
    blobs: Blobs,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> int:
    """Delete jobs that ended more than `settings.keep_days` ago, in batches. Return their number.

    Nothing is deleted while the clock is not trusted.
    """
    days, deleted = settings.keep_days, 0
    with database.write() as session:
        if not retention.trusts_clock(session):
            retention.warn_of_clock(session)
            return 0
    while days and not should_stop():
        with database.write() as session:
            gone = retention.delete_jobs(session, timedelta(days=days))
        if not gone:
            break
        deleted += len(gone)
        for prefix in gone:
            deletions.finish(database, blobs, prefix)
    if deleted:
        logger.info("retention: jobs older than %d days deleted (%d)", days, deleted)
    return deleted


def finish_deletions(
    database: Database, blobs: Blobs, *, should_stop: Callable[[], bool] = lambda: False
) -> list[str]:
    """Delete what is due, and remove expired idempotency keys. Return the deleted prefixes."""
    with database.write() as session:
        trusts_clock = retention.trusts_clock(session)
        if trusts_clock:
            idempotency.forget_old(session)
        due = deletions.take_due(session, trusts_clock=trusts_clock)
    finished = []
    for prefix in due:
        if should_stop():
            break
        try:
            if not deletions.finish(database, blobs, prefix):
                break
        except ClipCiteError as error:  # other deletions may succeed
            logger.warning("%s: %s", prefix, error)
            continue
        logger.info("%s: deleted", prefix)
        finished.append(prefix)
    return finished


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
