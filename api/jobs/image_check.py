"""Check of every image of an upload, by decoding it once, in a few threads."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from api.archives.layout import Split
from core.clip.checks.image_stats import SIDE, ImageStats, measure_image
from core.clip.data.images import ImageLimits
from core.clip.errors import BadImage
from core.serving.decoding import Decoders, Decoding
from core.settings import Settings

Content = bytes  # alias for use in classes with a field named `bytes`


@dataclass(frozen=True)
class LabelledImage:
    """Labelled image that was decoded without error."""

    split: Split
    class_name: str
    file_name: str  # for display only
    data: Path | BinaryIO
    sha256: str
    bytes: int
    stats: ImageStats
    label_confirmed: bool = False

    def read(self) -> Content:
        return read_data(self.data)


@dataclass(frozen=True)
class Candidate:
    """Labelled image that is not decoded yet. `problem` is an error known before."""

    split: Split
    class_name: str
    file_name: str
    data: Path | BinaryIO
    problem: BadImage | None = None
    label_confirmed: bool = False
    is_stored: bool = False
    """True for an image of an earlier upload, whose file is fetched last."""


@dataclass(frozen=True)
class _Checked:
    sha256: str
    bytes: int
    stats: ImageStats


def read_data(data: Path | BinaryIO, max_bytes: int | None = None) -> bytes:
    """Return the content of a file, or its first `max_bytes`."""
    if isinstance(data, Path):
        with data.open("rb") as file:
            return read_data(file, max_bytes)
    size = data.seek(0, os.SEEK_END)
    data.seek(0)
    # read() allocates the requested size, hence the minimum.
    content = data.read(size if max_bytes is None else min(size, max_bytes))
    data.seek(0)
    return content


def check_candidates(
    candidates: Sequence[Candidate], settings: Settings, decoders: Decoders, owner: str
) -> tuple[list[LabelledImage], list[dict[str, str]]]:
    """Decode all candidates, in the owner's turn. Return the good images, and errors {file, code, detail}."""
    limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)

    def check(candidate: Candidate, decoding: Decoding[_Checked]) -> _Checked:
        if candidate.problem is not None:
            raise candidate.problem
        content = read_data(candidate.data, limits.max_bytes + 1)
        # Only as large as the statistics need. A JPEG is still read completely, but takes less memory.
        image = decoding.open_image(content, limits, shortest_side=SIDE, grey=True)
        return _Checked(hashlib.sha256(content).hexdigest(), len(content), measure_image(image))

    shots: list[LabelledImage] = []
    bad: list[dict[str, str]] = []
    checks = [partial(check, candidate) for candidate in candidates]
    decodings = decoders.submit((owner, "adapt"), object(), checks)
    try:
        for candidate, decoding in zip(candidates, decodings, strict=True):
            try:
                checked = decoding.result()
            except BadImage as problem:
                bad.append({"file": candidate.file_name, "code": problem.code, "detail": problem.detail})
                continue
            shots.append(
                LabelledImage(
                    candidate.split,
                    candidate.class_name,
                    candidate.file_name,
                    candidate.data,
                    checked.sha256,
                    checked.bytes,
                    checked.stats,
                    candidate.label_confirmed,
                )
            )
    finally:
        decoders.cancel(decodings)
    return shots, bad
