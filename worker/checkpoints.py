"""Transfer of checkpoints between trainer and storage, so that the next attempt can run on any machine."""

import logging
import secrets
import threading
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from pathlib import Path
from types import TracebackType

from core.clip.training.checkpoint_files import MAX_CHECKPOINTS, epoch_of, is_whole, newest_first
from core.errors import ExpectedError
from core.store.db.session import Database
from core.store.jobs.jobs import checkpoints_of
from core.store.storage import deletions
from core.store.storage.blobs import Blobs

logger = logging.getLogger(__name__)
SETTLE_SECONDS = 5
"""Maximum wait for the upload of the last checkpoint when an attempt ends."""


class CheckpointUploader:
    """A thread that uploads checkpoints, so that slow storage does not delay training or cancellation.

    The trainer's folder is authoritative. `notify` only wakes the thread.

    Args:
        record: called with the blob folder and epoch of each stored checkpoint. Its transaction keeps the
            checkpoint. It returns False if the lease is lost.
    """

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        job_id: str,
        folder: Path,
        record: Callable[[str, int], bool],
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._job_id = job_id
        self._folder = folder
        self._record = record
        self._newest = ""
        """File name of the newest intact checkpoint in the storage."""
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._dropped = threading.Event()
        run = partial(copy_context().run, self._run)  # the context has the job's id for the log
        self._thread = threading.Thread(target=run, name="checkpoints", daemon=True)

    def __enter__(self) -> "CheckpointUploader":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flush after an error, because another attempt may follow. Otherwise discard."""
        if error is None:
            self.discard()
        else:
            self.flush(SETTLE_SECONDS)

    def fetch(self) -> int:
        """Download the newest intact checkpoint. Remove damaged ones, and return their number.

        Otherwise damaged checkpoints would count among the newest.
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
        """Wake the thread: the trainer has written a checkpoint."""
        self._wake.set()

    def flush(self, seconds: float) -> None:
        """Wait for the upload of the last checkpoint, for at most this time.

        Call this when the trainer has stopped and another attempt follows.
        """
        self._closing.set()
        self._wake.set()
        self._thread.join(seconds)

    def discard(self) -> None:
        """Stop storing checkpoints, including the one being uploaded. Call this when the job has ended."""
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
            except ExpectedError as error:  # training continues, and the next upload may succeed
                logger.warning("%s: a checkpoint could not be stored: %s", self._job_id, error)
            except Exception:
                logger.exception("%s: a checkpoint could not be stored", self._job_id)
            if last:
                return

    def _store_newest(self) -> None:
        path = next(iter(newest_first(self._folder)), None)
        if path is None or path.name == self._newest or self._dropped.is_set():
            return
        # Each upload has its own folder: on a CPU, another attempt may write the same file name.
        stored = f"{checkpoints_of(self._job_id)}/{secrets.token_hex(4)}"
        with deletions.unless_kept(self._database, self._blobs, stored):
            self._blobs.put(f"{stored}/{path.name}", path)
            if self._dropped.is_set() or not self._record(stored, epoch_of(path.name) or 0):
                return
        self._newest = path.name
        logger.info("%s: checkpoint after epoch %s stored", self._job_id, epoch_of(path.name))
        for old in self._stored()[MAX_CHECKPOINTS:]:
            self._blobs.delete(old)

    def _stored(self) -> list[str]:
        """Return the blob keys of the checkpoints, newest first."""
        keys = [blob.key for blob in self._blobs.list(checkpoints_of(self._job_id))]
        epochs = {key: epoch_of(key.rpartition("/")[2]) for key in keys}
        known = [key for key in keys if epochs[key] is not None]
        return sorted(known, key=lambda key: (epochs[key] or 0, key), reverse=True)
