"""Every image of an upload is decoded once, in a few threads."""

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

Content = bytes  # a name for the type where a field is called bytes


@dataclass(frozen=True)
class LabelledImage:
    """One labelled image that was decoded once and found good."""

    split: Split
    class_name: str
    file_name: str  # for display only
    data: Path | BinaryIO
    sha256: str
    bytes: int
    stats: ImageStats

    def read(self) -> Content:
        return read_data(self.data)


@dataclass(frozen=True)
class Candidate:
    split: Split
    class_name: str
    file_name: str
    data: Path | BinaryIO
    problem: BadImage | None = None


@dataclass(frozen=True)
class _Checked:
    sha256: str
    bytes: int
    stats: ImageStats


def read_data(data: Path | BinaryIO, most: int | None = None) -> bytes:
    if isinstance(data, Path):
        with data.open("rb") as file:
            return read_data(file, most)
    size = data.seek(0, os.SEEK_END)
    data.seek(0)
    content = data.read(size if most is None else min(size, most))  # read() sets aside what it is asked for
    data.seek(0)
    return content


def check_candidates(
    candidates: Sequence[Candidate], settings: Settings, decoders: Decoders, owner: str
) -> tuple[list[LabelledImage], list[dict[str, str]]]:
    limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)

    def check(candidate: Candidate, decoding: Decoding[_Checked]) -> _Checked:
        if candidate.problem is not None:
            raise candidate.problem
        content = read_data(candidate.data, limits.max_bytes + 1)
        # No larger than the statistics need: a JPEG is read to its end all the same, but in a part of
        # the memory.
        image = decoding.open_image(content, limits, shortest_side=SIDE, grey=True)
        return _Checked(hashlib.sha256(content).hexdigest(), len(content), measure_image(image))

    shots: list[LabelledImage] = []
    bad: list[dict[str, str]] = []
    works = [partial(check, candidate) for candidate in candidates]
    decodings = decoders.submit((owner, "adapt"), object(), works)
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
                )
            )
    finally:
        decoders.cancel(decodings)
    return shots, bad
