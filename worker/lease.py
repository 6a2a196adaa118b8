"""Renewal of a job's lease in a thread, from claim to end."""

import logging
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy.orm import Session

from core.store.db.session import Database
from core.store.errors import DatabaseUnavailable
from core.store.jobs import lifecycle
from core.store.jobs.lifecycle import Claim

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class Lease:
    """A heartbeat. Each beat renews the lease, writes the progress and reads a cancellation in one statement.

    `lost` is set when another worker may run the job: the lease has another token, or the database was
    unreachable for so long that the lease must have expired. From then on, nothing may be written.
    """

    def __init__(
        self,
        database: Database,
        claim: Claim,
        progress: Callable[[], dict[str, Any] | None] = lambda: None,
        *,
        lease_seconds: float,
        beat_seconds: float,
        draining: threading.Event | None = None,
    ) -> None:
        """Create a lease. Renewal starts with the context. `draining` is set when the worker must stop."""
        self.database = database
        self.claim = claim
        self.cancelled = threading.Event()
        self.lost = threading.Event()
        self._draining = draining or threading.Event()
        self._progress = progress
        self._lease_seconds = lease_seconds
        self._beat_seconds = beat_seconds
        self._ended = threading.Event()
        self._renewed = time.monotonic()
        beat = partial(copy_context().run, self._beat_until_ended)  # the context has the job's id for the log
        self._thread = threading.Thread(target=beat, name="lease", daemon=True)

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def is_over(self) -> bool:
        """Return whether the job was cancelled or the lease is lost. Then nothing may be published."""
        return self.cancelled.is_set() or self.lost.is_set()

    def should_stop(self) -> bool:
        """Return whether the attempt must stop because it is over, or because the worker stops."""
        return self.is_over() or self._draining.is_set()

    def write(
        self, transition: Callable[Concatenate[Session, Claim, P], T], *args: P.args, **options: P.kwargs
    ) -> T:
        """Run a transition of the job in a transaction. Retry while the database is unavailable.

        Retrying is safe, because transitions are idempotent.
        """
        until = time.monotonic() + self._lease_seconds / 2
        while True:
            try:
                with self.database.write() as session:
                    return transition(session, self.claim, *args, **options)
            except DatabaseUnavailable:
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)

    def _beat_until_ended(self) -> None:
        while not self._ended.wait(self._beat_seconds) and not self.lost.is_set():
            started = time.monotonic()
            try:
                with self.database.write() as session:
                    cancel = lifecycle.renew_lease(
                        session, self.claim, lease_seconds=self._lease_seconds, progress=self._progress()
                    )
            except Exception as error:  # the heartbeat continues after any error
                logger.warning("%s: the lease was not renewed: %s", self.claim.job_id, error)
                if time.monotonic() - self._renewed > 0.8 * self._lease_seconds:
                    self.lost.set()
                continue
            if cancel is None:
                self.lost.set()
            else:
                self._renewed = started
                if cancel:
                    self.cancelled.set()
