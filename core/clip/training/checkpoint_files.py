"""The files of checkpoints: the epoch and the SHA-256 of the content are in the name. Needs no torch."""

import re
from pathlib import Path

from core.clip.weights.manifest import file_sha256

MAX_CHECKPOINTS = 2
"""The newest, and the one before it in case that the newest is damaged."""
_NAME = re.compile(r"(\d{4,})-([0-9a-f]{64})\.safetensors")


def checkpoint_name(epoch: int, sha256: str) -> str:
    return f"{epoch:04d}-{sha256}.safetensors"


def epoch_of(name: str) -> int | None:
    """How many epochs were done; None if this is not the name of a checkpoint."""
    found = _NAME.fullmatch(name)
    return None if found is None else int(found[1])


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints in a folder, which need not be there."""
    files = folder.iterdir() if folder.is_dir() else ()
    epochs = {path: epoch_of(path.name) for path in files}
    return sorted((p for p, epoch in epochs.items() if epoch is not None), key=_order, reverse=True)


def is_whole(path: Path) -> bool:
    """Whether the content is what the name promises: safetensors alone loads a file with a flipped bit."""
    found = _NAME.fullmatch(path.name)
    return found is not None and file_sha256(path) == found[2]


def _order(path: Path) -> tuple[int, str]:
    return epoch_of(path.name) or 0, path.name
