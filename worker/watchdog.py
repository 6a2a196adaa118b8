"""A worker that has gone deaf: it lives, the broker answers, messages wait, and none of them arrives.

After a lost connection Celery has been like that more than once, in versions that nobody could tell from
others. No job is lost by it, but none runs either, so such a worker ends, and is started again by whatever
started it.
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
    def __init__(self, app: celery.Celery) -> None:
        self._app = app
        self._busy = False
        self._since: float | None = None
        """Since when there was something to take, and nothing was taken."""

    @contextmanager
    def message(self) -> Iterator[None]:
        """While one is worked on, whatever it is."""
        self._busy = True
        try:
            yield
        finally:
            self._since = None
            self._busy = False

    def start(self) -> None:
        """End the process (status 1) once it is deaf. It has no job then, and nothing to tidy up."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def is_starved(self) -> bool:
        """Asked again and again: for so long there were messages at each look, and we were idle."""
        try:
            missed = waiting(self._app) > 0
        except QueueUnavailable:
            missed = False  # nobody hears anything then
        if self._busy or not missed:
            self._since = None
            return False
        since = self._since = self._since or time.monotonic()
        return time.monotonic() - since > STARVED_SECONDS

    def _watch(self) -> None:
        while not self.is_starved():
            time.sleep(LOOK_SECONDS)
        logger.error(
            "For %g s messages waited at the broker and none came here, though it answers. This worker ends, "
            "to be started again.",
            STARVED_SECONDS,
        )
        os._exit(1)
