"""Temporary folders that are removed even if their process was killed, and a limit on their bytes.

The folders hold users' images. A process locks its folders. The next process to start removes unlocked
folders.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.admission import Budget, Take
from core.errors import ExpectedError

LOCK = ".lock"
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""`errno` values of a full disk, a read-only disk and an exceeded quota."""
MIN_FREE_BYTES = 16_000_000
"""Free disk space below which temporary files are refused (bytes)."""


class WorkerDiskFull(ExpectedError):
    """A disk of the worker is full or read-only."""

    code = "storage_full"

    def __init__(self, place: object) -> None:
        super().__init__(
            f"The worker's disk is full or read-only ({place}). Free disk space there, or make it writable."
        )


class ScratchExceeded(ExpectedError):
    """One request needs more temporary files than an owner may have."""

    code = "request_too_large"
    status = 413

    def __init__(self, max_bytes: int) -> None:
        super().__init__(
            f"The request needs more than {max_bytes:,} bytes of temporary files. Use fewer or smaller "
            "images."
        )


class ScratchFull(ExpectedError):
    """The disk of the temporary files is full."""

    code = "storage_full"
    status = 507

    def __init__(self) -> None:
        super().__init__("The server's disk is full. Nothing was stored. Free some space, and try again.")


class ScratchSpace(Budget):
    """Budget of the temporary files of all requests (bytes). One owner may use at most half of it."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        super().__init__(max_bytes, "Other uploads and exports take the space for temporary files.", 10)
        self.root = root

    @contextmanager
    def hold(self, owner: str, size: int = 0) -> Iterator[Take]:
        """Reserve space for bytes before they are written. Yield the function that takes more.

        Raises:
            ScratchExceeded: this request alone needs too much.
            ServerBusy: other requests use the space.
            ScratchFull: the disk is full.
        """
        mine = 0
        with super().hold(owner) as take_more:

            def take(more: int) -> None:
                nonlocal mine
                if mine + more > self.share:
                    raise ScratchExceeded(self.share)
                if more > 0 and free_bytes(self.root) < more + MIN_FREE_BYTES:
                    raise ScratchFull
                take_more(more)
                mine += more

            take(size)
            yield take


def free_bytes(root: Path) -> int:
    """Return the free bytes on the disk of `root`. `root` need not exist."""
    while not root.exists():
        root = root.parent
    return shutil.disk_usage(root).free


@contextmanager
def scratch_folder(root: Path) -> Iterator[Path]:
    """Create a private folder below `root`, and remove it when the context ends."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        folder = Path(tempfile.mkdtemp(dir=root))
        lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / LOCK).exists():
            break
        os.close(lock)  # a sweep removed the folder before the lock
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(lock)


def sweep_scratch(root: Path) -> int:
    """Remove the folders of ended processes below `root`. Return their number."""
    removed = 0
    for folder in root.iterdir() if root.is_dir() else ():
        try:
            lock = os.open(folder / LOCK, os.O_RDWR)
        except OSError:  # no lock file: the folder is empty, because it is being created or removed
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
    """Remove a folder and finally its lock, so that a sweep finds the rest if this process is killed."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LOCK:
                path.unlink()
    shutil.rmtree(folder, ignore_errors=True)
