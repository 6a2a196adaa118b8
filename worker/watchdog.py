"""Exit when messages have waited 60 s and this idle worker received none.

After a lost connection, some versions of Celery stop receiving messages although the broker answers. No job
is lost, but none runs either. The worker's supervisor restarts it.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import celery

from core.store.errors import QueueUnavailable
from core.store.jobs.queue import waiting

logger = logging.getLogger(__name__)
STARVED_SECONDS = 60.0
LOOK_SECONDS = 5.0


class Watchdog:
    """A thread that ends the process when the worker is starved."""

    def __init__(self, app: celery.Celery) -> None:
        self._app = app
        self._busy = False
        self._since: float | None = None
        """Start of the period in which messages have waited while this worker was idle."""

    @contextmanager
    def message(self) -> Iterator[None]:
        """Mark the worker as busy with a message."""
        self._busy = True
        try:
            yield
        finally:
            self._since = None
            self._busy = False

    def start(self) -> None:
        """Watch in a thread. Once starved, the process exits with status 1; it has no job to clean up."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def is_starved(self) -> bool:
        """Return whether messages have waited for `STARVED_SECONDS` while this worker was idle.

        Call this at short intervals: each call must find messages waiting.
        """
        try:
            messages_wait = waiting(self._app) > 0
        except QueueUnavailable:
            messages_wait = False  # then no worker receives anything
        if self._busy or not messages_wait:
            self._since = None
            return False
        since = self._since = self._since or time.monotonic()
        return time.monotonic() - since > STARVED_SECONDS

    def _watch(self) -> None:
        while not self.is_starved():
            time.sleep(LOOK_SECONDS)
        logger.error(
            "Messages have waited in the broker for %g s, and this idle worker received none. Exiting, to be "
            "restarted.",
            STARVED_SECONDS,
        )
        os._exit(1)
