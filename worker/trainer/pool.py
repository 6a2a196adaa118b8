"""The standby trainer process for the next job."""

import logging
import threading

from worker.trainer.process import TrainerProcess

logger = logging.getLogger(__name__)


class TrainerPool:
    """At most one standby trainer with finished imports, so that the next job starts sooner.

    The worker starts the standby when a training has ended, not during one: the cores are busy, and the
    memory may suffice for one process only. If the standby dies, the next job starts its own trainer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trainer: TrainerProcess | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the standby, or None."""
        trainer = self._trainer
        return None if trainer is None else trainer.pid

    def prepare(self) -> None:
        """Start a standby, unless there is one."""
        with self._lock:
            if self._closed or (self._trainer is not None and self._trainer.alive()):
                return
            self._drop()
            try:
                self._trainer = TrainerProcess()
            except OSError as error:  # no memory or no process left: the next job starts its own trainer
                logger.warning("No trainer stands by: %s", error)

    def take(self) -> TrainerProcess | None:
        """Take the standby, if there is one. The caller must assign it a job and kill it."""
        with self._lock:
            if self._trainer is not None and not self._trainer.alive():
                logger.warning("The standby trainer has died; the job starts another one")
                self._drop()
            trainer, self._trainer = self._trainer, None
            return trainer

    def close(self) -> None:
        """Kill the standby, and start no other."""
        with self._lock:
            self._closed = True
            self._drop()

    def _drop(self) -> None:
        if self._trainer is not None:
            self._trainer.kill()
        self._trainer = None
