"""Images for a pile, each with the SHA-256 of its file, by which a pile knows it."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from clipcite.client.request import BINARY, Request, path_of
from clipcite.client.upload import UNSENDABLE
from clipcite.datasets.class_folders import images_below
from clipcite.datasets.image import ImageFile, ImageLike, as_image, is_one_image, reading
from clipcite.errors import InvalidImages
from clipcite.types.piles import MAX_PILE_IMAGES, How, Said

PART = 32
"""Images of an upload. The service accepts 64 by default, and computes their features before it responds."""
PART_SECONDS = 300
"""Read timeout of an upload and of a sort."""


@dataclass(frozen=True)
class PileFile:
    """An image to add to a pile."""

    name: str
    """Path below the folder of the pile, with `/`."""
    image: ImageFile
    sha256: str

    @classmethod
    def of(cls, name: str, image: ImageFile) -> "PileFile":
        """Read an image for its hash.

        Raises:
            InvalidImages: the file can't be read.
        """
        with image.open() as file, reading(image.path or Path(image.name)):
            return cls(
                UNSENDABLE.sub("_", name), image, hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
            )


Pileable = str | os.PathLike[str] | Sequence[ImageLike | PileFile] | Mapping[str, ImageLike]
"""A folder, images, or a mapping from paths below a folder to images."""


def pile_files(images: Pileable) -> list[PileFile]:
    """Return the images of a pile with their hashes. Names of listed paths begin below their common folder.

    Raises:
        InvalidImages: images are missing, unreadable or too many.
    """
    if isinstance(images, str | os.PathLike) and Path(images).is_dir():
        root = Path(images)
        with reading(root):
            images = {path.relative_to(root).as_posix(): path for path in images_below(root)}
    files: list[tuple[str, ImageFile | PileFile]]
    if isinstance(images, Mapping):
        files = [(name, as_image(image, name)) for name, image in images.items()]
    else:
        files = _named([images] if is_one_image(images) else list(cast(Sequence[Any], images)))
    if not 1 <= len(files) <= MAX_PILE_IMAGES:
        raise InvalidImages(f"A pile has 1 to {MAX_PILE_IMAGES:,} images, not {len(files):,}.")
    return [file if isinstance(file, PileFile) else PileFile.of(name, file) for name, file in files]


def _named(images: Sequence[ImageLike | PileFile]) -> list[tuple[str, ImageFile | PileFile]]:
    """Return images with their names."""
    files = [
        image if isinstance(image, PileFile) else as_image(image, f"image-{number}")
        for number, image in enumerate(images, 1)
    ]
    paths = [file.path.absolute() for file in files if isinstance(file, ImageFile) and file.path]
    root = os.path.commonpath([path.parent for path in paths]) if paths else ""
    return [
        (file.path.absolute().relative_to(root).as_posix(), file)
        if isinstance(file, ImageFile) and file.path
        else (file.name, file)
        for file in files
    ]


def match_request(files: Sequence[PileFile]) -> Request:
    """Build the request for the piles that have files."""
    body = {"sha256": [file.sha256 for file in files]}
    return Request("POST", "/piles/match", json=body, read_seconds=PART_SECONDS)


def add_request(pile_id: str, files: Sequence[PileFile]) -> Request:
    """Build the request that adds a part of the images, and read them."""
    return Request(
        "POST",
        path_of("piles", pile_id, "images"),
        files=[("images", (file.name, file.image.read(), BINARY)) for file in files],
        read_seconds=PART_SECONDS,
    )


def answers_request(
    pile_id: str, positions: int | Sequence[int], said: Said, class_name: str | None, how: How
) -> Request:
    """Build the request with an answer. Twice the same answer has the effect of one."""
    places = [positions] if isinstance(positions, int) else list(positions)
    answer = {"positions": places, "said": said, "class_name": class_name, "how": how}
    return Request("POST", path_of("piles", pile_id, "answers"), json={"answers": [answer]})
