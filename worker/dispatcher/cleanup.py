"""Cleanup: deletions that are due, and retention. Any number of processes may do it."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial

from sqlalchemy.orm import Session

from core.errors import ClipCiteError
from core.settings import Settings
from core.store import retention
from core.store.accounts import idempotency
from core.store.db.session import Database
from core.store.retention import MAX_AUDIT_DAYS
from core.store.storage import deletions, installation
from core.store.storage.blobs import Blobs

logger = logging.getLogger("worker.dispatcher.cleanup")
RETENTION_SECONDS = 3_600.0
"""Interval between rounds of the retention, and time until a process's first one."""
DELETIONS_SECONDS = 60.0
"""Interval at which due deletions are done."""
RETENTION_PAUSE_SECONDS = 0.2
"""Pause between batches of the retention, in which other processes can write to SQLite."""


def enforce_retention(
    settings: Settings,
    database: Database,
    blobs: Blobs,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    guard: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> dict[str, int]:
    """Delete what is older than `settings.keep_days` or a fixed time, in batches. Return the numbers by kind.

    Nothing is deleted by a clock that is not trusted.

    Args:
        guard: returns a context manager that handles the errors of one kind.
    """
    days = settings.keep_days
    kinds: dict[str, tuple[int, Callable[[Session, timedelta], list[str]]]] = {
        "jobs": (days, retention.delete_jobs),
        "audit": (min(days or MAX_AUDIT_DAYS, MAX_AUDIT_DAYS), retention.delete_audit),
    }
    deleted = dict.fromkeys(kinds, 0)
    with database.write() as session:
        if not retention.trusts_clock(session):
            retention.warn_of_clock(session)
            return deleted
    for kind, (limit, delete) in kinds.items():
        with guard():
            while limit and not should_stop():
                with database.write() as session:
                    gone = delete(session, timedelta(days=limit))
                if not gone:
                    break
                deleted[kind] += len(gone)
                for prefix in gone if kind == "jobs" else ():
                    deletions.finish(database, blobs, prefix)
        if deleted[kind]:
            logger.info("retention: %s older than %d days deleted (%d)", kind, limit, deleted[kind])
    return deleted


def finish_deletions(
    database: Database, blobs: Blobs, *, should_stop: Callable[[], bool] = lambda: False
) -> list[str]:
    """Do the deletions that are due, and remove expired idempotency keys. Return the deleted prefixes."""
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
        except ClipCiteError as error:  # the others may succeed
            logger.warning("%s: %s", prefix, error)
            continue
        logger.info("%s: deleted", prefix)
        finished.append(prefix)
    return finished


class Cleaner:
    """A thread for deletions and retention, so that a slow storage does not delay dispatching."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        blobs: Blobs,
        *,
        guard: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Make a cleaner.

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
        """Stop the thread, and wait for at most this time. An interrupted deletion is repeated."""
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
                        guard=self._guard,
                    )
                enforced = time.monotonic()
            self._stop.wait(DELETIONS_SECONDS)
