"""Renewal of a job's lease in a thread, from claim to end."""

import logging
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Any

from core.store.db.session import Database
from core.store.jobs import leases
from core.store.jobs.leases import Claim

logger = logging.getLogger(__name__)


class Lease:
    """A heartbeat that renews the lease, writes the progress and reads a cancellation in one statement.

    `lost` is set when another worker may run the job: the lease has another token, or the database was
    unreachable until the lease must have expired. Nothing may be written after that.
    """

    def __init__(
        self,
        database: Database,
        claim: Claim,
        progress: Callable[[], dict[str, Any] | None] = lambda: None,
        *,
        lease_seconds: float,
        beat_seconds: float,
    ) -> None:
        self.cancelled = threading.Event()
        self.lost = threading.Event()
        self._progress = progress
        self._database = database
        self._claim = claim
        self._lease_seconds = lease_seconds
        self._beat_seconds = beat_seconds
        self._ended = threading.Event()
        self._renewed = time.monotonic()
        beat = partial(copy_context().run, self._beat_until_ended)  # for the job's id in the log
        self._thread = threading.Thread(target=beat, name="lease", daemon=True)

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _beat_until_ended(self) -> None:
        while not self._ended.wait(self._beat_seconds) and not self.lost.is_set():
            started = time.monotonic()
            try:
                with self._database.write() as session:
                    cancel = leases.heartbeat(
                        session, self._claim, lease_seconds=self._lease_seconds, progress=self._progress()
                    )
            except Exception as error:  # the heartbeat goes on after any error
                logger.warning("%s: the lease was not renewed: %s", self._claim.job_id, error)
                if time.monotonic() - self._renewed > 0.8 * self._lease_seconds:
                    self.lost.set()
                continue
            if cancel is None:
                self.lost.set()
            else:
                self._renewed = started
                if cancel:
                    self.cancelled.set()
