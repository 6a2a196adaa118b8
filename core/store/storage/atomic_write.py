"""Files in a folder that are there whole or not at all, also after a power cut."""

import os
import secrets
import shutil
from pathlib import Path


def write_file(root: Path, path: Path, data: bytes | Path) -> None:
    """Write bytes or a file's content to `path`, which is below the existing `root`.

    Written beside its place, flushed to the disk, renamed, and the folders flushed too: from the
    moment that this returns it survives a power cut, and before it nobody sees a half of it. What a
    killed process leaves is a `.part` file. Raises OSError.
    """
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
    while path != root:  # new folders are entries of their parents
        path = path.parent
        _sync_folder(path)


def remove_empty(folder: Path) -> None:
    """Remove the empty folders below `folder`, and itself. Not its parents: somebody may be about to
    write beside it."""
    for path, _, files in os.walk(folder, topdown=False):
        if not files:
            try:
                Path(path).rmdir()
            except OSError:  # not empty any more, or removed by somebody else
                continue


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
