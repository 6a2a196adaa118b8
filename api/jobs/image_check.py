"""Images of an upload and of an earlier job. Each is checked by decoding it once."""

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from clipcite.types.folders import Split
from core.clip.checks.image_stats import SIDE, ImageStats, measure_image
from core.clip.data.decoders import Decoders
from core.clip.data.header import ImageLimits
from core.clip.errors import BadImage
from core.settings import Settings
from core.store.db.tables import JobImage
from core.store.storage.blobs import Blobs

Content = bytes  # alias for use in classes with a field named `bytes`


@dataclass(frozen=True)
class Candidate:
    """Labelled image that is not decoded yet. `problem` is an error that is already known."""

    split: Split
    class_name: str
    file_name: str  # for display only
    data: Path | BinaryIO
    problem: BadImage | None = None
    label_confirmed: bool = False


@dataclass(frozen=True, kw_only=True)
class LabelledImage(Candidate):
    """Labelled image that was decoded without an error."""

    sha256: str
    bytes: int
    stats: ImageStats

    def read(self) -> Content:
        return read_data(self.data)


@dataclass(frozen=True)
class StoredImages:
    """Images of an earlier job, with corrected labels. `fetch` copies their files to a folder."""

    rows: Sequence[JobImage]
    blobs: Blobs
    folder: Path
    moved: Mapping[int, str] = field(default_factory=dict)
    """Corrected class names by position."""
    confirmed: frozenset[int] = frozenset()
    """Positions of the images whose labels the user confirmed."""

    @property
    def bytes(self) -> int:
        return sum(row.bytes for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Candidate]:
        for row in self.rows:
            yield Candidate(
                "test" if row.split == "test" else "train",
                self.moved.get(row.position, row.class_name),
                row.file_name,
                self._file_of(row),
                label_confirmed=row.label_confirmed
                or row.position in self.moved
                or row.position in self.confirmed,
            )

    def fetch(self) -> None:
        for row in self.rows:
            self.blobs.fetch(row.blob_key, self._file_of(row), sha256=row.sha256)

    def _file_of(self, row: JobImage) -> Path:
        return self.folder / f"kept-{row.position:05d}"


def read_data(data: Path | BinaryIO, max_bytes: int | None = None) -> bytes:
    """Return the content of a file, or its first `max_bytes`."""
    if isinstance(data, Path):
        with data.open("rb") as file:
            return read_data(file, max_bytes)
    size = data.seek(0, os.SEEK_END)
    data.seek(0)
    # The minimum limits the buffer that read() allocates.
    content = data.read(size if max_bytes is None else min(size, max_bytes))
    data.seek(0)
    return content


def check_candidates(
    candidates: Sequence[Candidate], settings: Settings, decoders: Decoders
) -> tuple[list[LabelledImage], list[dict[str, str]]]:
    """Decode all candidates. Return the good images, and errors {file, code, detail}."""
    limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
    read: deque[tuple[str, int]] = deque()
    """Hash and size of the files that are being decoded."""

    def contents() -> Iterator[Content]:
        for candidate in candidates:
            if candidate.problem is None:
                content = read_data(candidate.data, limits.max_bytes + 1)
                read.append((hashlib.sha256(content).hexdigest(), len(content)))
                yield content

    shots: list[LabelledImage] = []
    bad: list[dict[str, str]] = []
    # Decode only as large as the statistics need. A JPEG is still read completely, but needs less memory.
    images = decoders.read(contents(), limits, shortest_side=SIDE, grey=True)
    with closing(images):
        for candidate in candidates:
            image = candidate.problem or next(images)
            if candidate.problem is None:
                sha256, size = read.popleft()
            if isinstance(image, BadImage):
                bad.append({"file": candidate.file_name, "code": image.code, "detail": image.detail})
                continue
            stats = measure_image(Image.fromarray(image))
            shots.append(LabelledImage(**vars(candidate), sha256=sha256, bytes=size, stats=stats))
    return shots, bad
