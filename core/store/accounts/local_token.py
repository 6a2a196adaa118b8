"""Token of an installation without keys: a file in the data folder, which only its user can read."""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

FILE = "token"


def ensure(folder: Path) -> str:
    """Return the token of a data folder. The first call creates it.

    A token that other users of the machine could read is replaced.

    Raises:
        OSError: the folder is not writable.
    """
    path = folder / FILE
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.unlink()
    if not path.exists():
        part = path.with_name(f"{FILE}.{secrets.token_hex(4)}.part")
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(f"{secrets.token_urlsafe(32)}\n")
            with suppress(FileExistsError):  # another process was faster, and its token counts
                os.link(part, path)
        finally:
            part.unlink()
    return path.read_text(encoding="ascii").strip()


def discard(folder: Path) -> None:
    """Delete the token. It is not needed once a key exists."""
    (folder / FILE).unlink(missing_ok=True)
