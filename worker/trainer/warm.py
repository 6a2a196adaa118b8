"""The warm trainer. It waits for the next job."""

import logging
import threading

from worker.trainer.process import TrainerProcess

logger = logging.getLogger(__name__)


class WarmTrainer:
    """At most one trainer with finished imports, so that the next job starts sooner.

    The worker starts the warm trainer after a training, because during one the cores are busy and memory may
    suffice for only one process. If the warm trainer dies, the next job starts its own trainer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trainer: TrainerProcess | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the warm trainer, or None."""
        trainer = self._trainer
        return None if trainer is None else trainer.pid

    def prepare(self) -> None:
        """Start a warm trainer, unless one exists."""
        with self._lock:
            if self._closed or (self._trainer is not None and self._trainer.alive()):
                return
            self._drop()
            try:
                self._trainer = TrainerProcess()
            except OSError as error:  # out of memory or processes: the next job starts its own trainer
                logger.warning("A warm trainer could not be started: %s", error)

    def take(self) -> TrainerProcess | None:
        """Take the warm trainer, if any. The caller must assign it a job, and kill it at the end."""
        with self._lock:
            if self._trainer is not None and not self._trainer.alive():
                logger.warning("The warm trainer has died. The job starts another one.")
                self._drop()
            trainer, self._trainer = self._trainer, None
            return trainer

    def close(self) -> None:
        """Kill the warm trainer. No other is started."""
        with self._lock:
            self._closed = True
            self._drop()

    def _drop(self) -> None:
        if self._trainer is not None:
            self._trainer.kill()
        self._trainer = None
