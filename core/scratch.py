"""Temporary files: folders that are removed even if their process was killed, and a limit on their bytes.

The folders hold users' images. Each is locked by its process; the next process to start removes the unlocked
ones.
"""

import errno
import fcntl
import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.errors import ClipCiteError

LOCK = ".lock"
UNLOCKED_SECONDS = 3_600
"""Age from which a folder without a lock is left over. A younger one is being made or removed."""
FULL = {errno.ENOSPC, errno.EDQUOT}
"""`errno` values of a full disk and an exceeded quota."""
MIN_FREE_BYTES = 16_000_000
"""Free disk space below which no temporary file is written."""


class ByteLimit:
    """Counts the bytes of all requests. By itself, it refuses no request because of its own size."""

    busy: type[ClipCiteError]
    """The error if other requests take the space, made without arguments."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.lock = threading.Lock()
        self._held: Counter[str] = Counter()

    @contextmanager
    def share(self, owner: str) -> Iterator["ByteShare"]:
        """Count the bytes of a request, until the end of the context."""
        share = ByteShare(self, owner)
        try:
            yield share
        finally:
            share.take(-share.bytes)

    def check(self, share: "ByteShare", size: int) -> None:
        """Raise `busy` if there is no room for more bytes of a request. The caller holds the lock."""
        total, own = self._held.total(), self._held[share.owner]
        is_full = total > share.bytes and total + size > self.max_bytes
        if is_full or (own > share.bytes and own + size > self.max_bytes // 2):
            raise self.busy()

    def add(self, owner: str, size: int) -> None:
        """Count bytes of an owner. The caller holds the lock."""
        self._held[owner] += size
        self._held += Counter()  # drops those at 0


class ByteShare:
    """The bytes of one request."""

    def __init__(self, limit: ByteLimit, owner: str) -> None:
        self.owner = owner
        self.bytes = 0
        self._limit = limit

    def check(self, size: int) -> None:
        """Raise the errors of the limit if there is no room for more bytes."""
        with self._limit.lock:
            self._limit.check(self, size)

    def take(self, size: int) -> None:
        """Count bytes before they are held or written. A negative size gives bytes back.

        Raises:
            ClipCiteError, OSError: those of the limit. Nothing is counted then.
        """
        with self._limit.lock:
            if size > 0:
                self._limit.check(self, size)
            self._limit.add(self.owner, size)
            self.bytes += size


class ScratchBusy(ClipCiteError):
    """Temporary files of other requests take the space."""

    code = "busy"
    status = 503
    retry_after = 10

    def __init__(self) -> None:
        super().__init__("Other uploads and exports take the space for temporary files. Try again in 10 s.")


class ScratchExceeded(ClipCiteError):
    """One request needs more temporary files than an owner may have."""

    code = "request_too_large"
    status = 413

    def __init__(self, max_bytes: int) -> None:
        super().__init__(
            f"The request needs more than {max_bytes:,} bytes of temporary files. Use fewer or smaller "
            "images."
        )


class ScratchSpace(ByteLimit):
    """Limit on the temporary files of all requests of a process."""

    busy = ScratchBusy

    def __init__(self, root: Path, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self.root = root

    def check(self, share: ByteShare, size: int) -> None:
        """Check the room for more bytes of a request, and the free space of the disk.

        Raises:
            ScratchBusy: other requests take the space.
            ScratchExceeded: this request alone needs too much.
            OSError: the disk is full.
        """
        if share.bytes + size > self.max_bytes // 2:
            raise ScratchExceeded(self.max_bytes // 2)
        super().check(share, size)
        if free_bytes(self.root) < size + MIN_FREE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def free_bytes(root: Path) -> int:
    """Return the free bytes of the disk of `root`, which need not exist."""
    while not root.exists():
        root = root.parent
    return shutil.disk_usage(root).free


@contextmanager
def scratch_folder(root: Path) -> Iterator[Path]:
    """Make a private folder below `root`, and remove it at the end."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        folder = Path(tempfile.mkdtemp(dir=root))
        lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / LOCK).exists():
            break
        os.close(lock)  # a sweep removed the folder before it was locked
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(lock)


def sweep_scratch(root: Path) -> int:
    """Remove the folders below `root` whose process has ended. Return their number."""
    removed = 0
    for folder in root.iterdir() if root.is_dir() else ():
        try:
            lock = os.open(folder / LOCK, os.O_RDWR)
        except FileNotFoundError:
            with suppress(OSError):
                if time.time() - folder.lstat().st_mtime > UNLOCKED_SECONDS:
                    shutil.rmtree(folder)
                    removed += 1
            continue
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(folder)
            removed += 1
        except BlockingIOError:
            pass  # in use
        finally:
            os.close(lock)
    return removed


def _remove(folder: Path) -> None:
    """Remove a folder, its lock last, so that a sweep finds the rest if this process is killed."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LOCK:
                path.unlink()
    shutil.rmtree(folder, ignore_errors=True)
