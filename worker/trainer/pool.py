"""The trainer's process, and the one that stands by for the next job."""

import logging
import threading

from worker.trainer.process import TrainerProcess

logger = logging.getLogger(__name__)


class TrainerPool:
    """A trainer that has done its imports and waits, so that the next job need not wait for them.

    There is at most one, and the worker starts it when a training has ended, not while one runs: two
    cores that train have no time for imports, and a machine that is just large enough for a training
    has no memory for a second process. A standby that dies is missed by the next job only, which then
    starts a trainer of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trainer: TrainerProcess | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        trainer = self._trainer
        return None if trainer is None else trainer.pid

    def prepare(self) -> None:
        """Start one, unless it stands there already."""
        with self._lock:
            if self._closed or (self._trainer is not None and self._trainer.alive()):
                return
            self._drop()
            try:
                self._trainer = TrainerProcess()
            except OSError as error:  # no memory, no more processes: no reason to fail anything
                logger.warning("No trainer stands by: %s", error)

    def take(self) -> TrainerProcess | None:
        """The one that waits. It belongs to the caller then, who gives it a job and ends it."""
        with self._lock:
            if self._trainer is not None and not self._trainer.alive():
                logger.warning("The trainer that stood by is gone; the job starts another one")
                self._drop()
            trainer, self._trainer = self._trainer, None
            return trainer

    def close(self) -> None:
        """End it, and start no other one."""
        with self._lock:
            self._closed = True
            self._drop()

    def _drop(self) -> None:
        if self._trainer is not None:
            self._trainer.kill()
        self._trainer = None
