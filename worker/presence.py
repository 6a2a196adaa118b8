"""Signs of life of a worker, by which the dispatcher knows how many jobs can start."""

import logging
import threading
from collections.abc import Callable

from core.store.db.session import Database
from core.store.jobs import workers

logger = logging.getLogger(__name__)


class Presence:
    """A thread that reports the worker while it can take jobs. Its job has a lease of its own."""

    def __init__(
        self, database: Database, name: str, can_run: Callable[[], bool], *, lease_seconds: float
    ) -> None:
        self._database = database
        self._name = name
        self._can_run = can_run
        self._seconds = lease_seconds / 3
        self._stopped = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._report, name="presence", daemon=True).start()

    def stop(self) -> None:
        """Withdraw the worker and end the thread. Call this from any thread or signal handler."""
        self._stopped.set()

    def _report(self) -> None:
        while not self._stopped.is_set():
            self._record()
            self._stopped.wait(self._seconds)
        self._record()

    def _record(self) -> None:
        try:
            present = self._can_run() and not self._stopped.is_set()
            with self._database.write() as session:
                (workers.report if present else workers.withdraw)(session, self._name)
        except Exception as error:  # the next report may succeed
            logger.warning("This worker could not report itself: %s", error)
