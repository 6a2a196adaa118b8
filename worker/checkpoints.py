"""The checkpoints of a job on their way between the trainer's folder and the storage, where the next
attempt finds them, on whatever machine it runs."""

import logging
import threading
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from pathlib import Path
from types import TracebackType

from core.clip.training.checkpoint_files import MAX_CHECKPOINTS, epoch_of, is_whole, newest_first
from core.errors import ClipCiteError
from core.store.jobs.checkpoints import folder_of
from core.store.storage.blobs import Blobs

logger = logging.getLogger(__name__)
SETTLE_SECONDS = 5
"""For a checkpoint that is not stored yet when the attempt ends."""


class CheckpointUploader:
    """Stores what the trainer writes, in a thread: a slow storage holds up neither the training nor a
    cancel. The trainer's folder is what counts, `look` only a hint.

    Args:
        record: called with the epoch once a checkpoint is stored; False says that the lease is lost.
    """

    def __init__(self, blobs: Blobs, job_id: str, folder: Path, record: Callable[[int], bool]) -> None:
        self._blobs = blobs
        self._job_id = job_id
        self._folder = folder
        self._record = record
        self._newest = ""
        """The name of the newest one that is stored and whole."""
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._dropped = threading.Event()
        run = partial(copy_context().run, self._run)  # what is logged belongs to the job
        self._thread = threading.Thread(target=run, name="checkpoints", daemon=True)

    def __enter__(self) -> "CheckpointUploader":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """After an error another attempt may follow, and may as soon as we are done here."""
        if error is None:
            self.discard()
        else:
            self.flush(SETTLE_SECONDS)

    def fetch(self) -> int:
        """Lay the newest one that is whole into the trainer's folder; returns how many were damaged.

        A damaged one is removed: a trainer that comes by it again writes one of the same name.
        """
        self._folder.mkdir()
        damaged = 0
        for key in self._stored():
            name = key.rpartition("/")[2]
            path = self._folder / name
            self._blobs.fetch(key, path)
            if is_whole(path):
                self._newest = name
                break
            logger.warning("%s: the checkpoint %s is damaged", self._job_id, name)
            damaged += 1
            path.unlink()
            self._blobs.delete(key)
        return damaged

    def notify(self) -> None:
        """The trainer has written one."""
        self._wake.set()

    def flush(self, seconds: float) -> None:
        """No more will be written, and another attempt follows: wait for what is not stored yet, but no
        longer than this."""
        self._closing.set()
        self._wake.set()
        self._thread.join(seconds)

    def discard(self) -> None:
        """Nobody needs them any more: store nothing, also nothing that is being stored just now."""
        self._dropped.set()
        self._closing.set()
        self._wake.set()

    def _run(self) -> None:
        while not self._dropped.is_set():
            self._wake.wait()
            self._wake.clear()
            last = self._closing.is_set()
            try:
                self._store_newest()
            except ClipCiteError as error:  # the training goes on; the next one may be stored
                logger.warning("%s: a checkpoint is not stored: %s", self._job_id, error)
            except Exception:
                logger.exception("%s: a checkpoint is not stored", self._job_id)
            if last:
                return

    def _store_newest(self) -> None:
        path = next(iter(newest_first(self._folder)), None)
        if path is None or path.name == self._newest or self._dropped.is_set():
            return
        key = f"{folder_of(self._job_id)}/{path.name}"
        self._blobs.put(key, path)
        if self._dropped.is_set() or not self._record(epoch_of(path.name) or 0):
            self._blobs.delete(key)
            return
        self._newest = path.name
        logger.info("%s: the state after epoch %s is stored", self._job_id, epoch_of(path.name))
        for old in self._stored()[MAX_CHECKPOINTS:]:
            self._blobs.delete(old)

    def _stored(self) -> list[str]:
        """The keys, the newest first."""
        keys = [blob.key for blob in self._blobs.list(folder_of(self._job_id))]
        epochs = {key: epoch_of(key.rpartition("/")[2]) for key in keys}
        known = [key for key in keys if epochs[key] is not None]
        return sorted(known, key=lambda key: (epochs[key] or 0, key), reverse=True)
