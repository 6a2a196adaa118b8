"""Checkpoint files, named by epoch and SHA-256 of the content. Needs no torch."""

import re
from pathlib import Path

from core.clip.weights.manifest import file_sha256

MAX_CHECKPOINTS = 2
"""Number of checkpoints to keep: the newest, and the one before in case the newest is damaged."""
_NAME = re.compile(r"(\d{4,})-([0-9a-f]{64})\.safetensors")


def checkpoint_name(epoch: int, sha256: str) -> str:
    """Return the file name of a checkpoint."""
    return f"{epoch:04d}-{sha256}.safetensors"


def epoch_of(name: str) -> int | None:
    """Return the number of completed epochs, or None if `name` is not a checkpoint's name."""
    match = _NAME.fullmatch(name)
    return None if match is None else int(match[1])


def newest_first(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, newest first. Return an empty list if the folder does not exist."""
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in files if _NAME.fullmatch(path.name)), reverse=True)


def is_whole(path: Path) -> bool:
    """Return True if the content matches the SHA-256 in the name.

    safetensors alone does not detect a flipped bit.
    """
    match = _NAME.fullmatch(path.name)
    return match is not None and file_sha256(path) == match[2]
