"""Temporary folders that are removed even if their process was killed.

They hold users' images. Each folder is locked by its process; the next process to start removes the
unlocked ones.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".lock"
FULL = {errno.ENOSPC, errno.EDQUOT}
"""`errno` values of a full disk and an exceeded quota."""


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
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep_scratch(root: Path) -> int:
    """Remove the folders below `root` whose process has ended. Return their number."""
    removed = 0
    for folder in root.iterdir() if root.is_dir() else ():
        try:
            lock = os.open(folder / LOCK, os.O_RDWR)
        except OSError:  # being made, or being removed by its owner
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
        except BlockingIOError:
            pass  # in use
        finally:
            os.close(lock)
    return removed
