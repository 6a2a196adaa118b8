"""A labelled image, from the upload to the trainer."""

import builtins
import os
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from pydantic import PlainValidator

from clipcite.types.folders import Split
from clipcite.types.problems import Notice

Content = Annotated[bytes | Path | BinaryIO | str, PlainValidator(lambda content: content)]


@dataclass(frozen=True)
class ImageStats:
    """Statistics of an image (`core.clip.checks.image_stats`), for the checks before training.

    They are stored with the image. A change of their meaning needs a migration that deletes the stored ones.
    """

    shorter_side: int
    """Shorter side (pixels), at most 128."""
    aspect_ratio: float
    """Longer side divided by shorter side."""
    contrast: float
    """Standard deviation of the grey levels, 0 to 128."""
    sharpness: float
    """Sharpness of the strongest edges: about 0.6 to 1.2 in focus, below 0.46 out of focus."""
    subject_coverage: float
    """Approximate share of the image that the subject covers, 0 to 1."""
    thumbnail: str
    """SHA-256 of a small grey version."""
    pattern: str
    """Hexadecimal bits: whether each low frequency is above their median."""
    mirrored_pattern: str
    """`pattern` of the mirrored image."""


@dataclass(frozen=True)
class Image:
    """A labelled image. Its position is its index in the upload, training images first."""

    content: Content
    """The bytes, a file, an open file, or the key of a blob."""
    class_name: str
    split: Split | Literal["feedback"] = "train"
    file_name: str = ""
    """Name for people, never used as a path."""
    sha256: str = ""
    bytes: int = 0
    label_confirmed: bool = False
    """True if a person set or confirmed the label. It is then never reported as a label issue."""
    stats: ImageStats | None = None
    """None: not measured, for example by an older version."""
    problem: Notice | None = None
    """Why the image can't be used."""

    def read(self, max_bytes: int | None = None) -> builtins.bytes:
        """Return the content, or its first `max_bytes`. The content must not be the key of a blob."""
        content = self.content
        assert not isinstance(content, str)
        if isinstance(content, builtins.bytes):
            return content[:max_bytes]
        with content.open("rb") if isinstance(content, Path) else nullcontext(content) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            # The minimum limits the buffer that read() allocates.
            return file.read(size if max_bytes is None else min(size, max_bytes))
