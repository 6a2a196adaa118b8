"""Atomic and durable writes of files: complete or absent, even after a power cut."""

import os
import re
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

PART = re.compile(r"\.[0-9a-f]{8}\.part$")
"""Suffix of temporary files. A killed process leaves them."""


def write_files(root: Path, files: Iterable[tuple[Path, bytes | Path]]) -> None:
    """Write bytes or a file's content to each path. All paths are below `root`, which must exist.

    Each file is written under a temporary name, synced and renamed. At the end each folder is synced once.
    Readers never see a partial file. Once this function has returned, the files survive a power cut. A killed
    process leaves a `.part` file.

    Raises:
        OSError: the write failed.
    """
    folders: set[Path] = set()
    for path, data in files:
        _write(path, data)
        while path != root:  # a new folder is an entry in its parent
            path = path.parent
            folders.add(path)
    for folder in sorted(folders, reverse=True):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write(path: Path, data: bytes | Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            if isinstance(data, Path):
                with data.open("rb") as source:
                    shutil.copyfileobj(source, file, 1 << 20)
            else:
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def remove_empty(folder: Path) -> None:
    """Remove empty folders below `folder`, and `folder` itself if it is empty.

    Parents are kept, because another process may be about to write there.
    """
    for path, _, files in os.walk(folder, topdown=False):
        if not files:
            try:
                Path(path).rmdir()
            except OSError:  # no longer empty, or removed by another process
                continue
