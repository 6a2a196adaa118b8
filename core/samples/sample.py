"""The sample: images of trained classes, and of a new class for the test."""

import io
import random
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from core.errors import ExpectedError
from core.samples import parts

NAME, TITLE = "parts", "Drawn metal parts"
LICENSE, CREDIT = "Apache-2.0", "Drawn by clipcite."
TRAINED = ("washer", "nut", "gear", "bracket")
NEW = ("screw",)
"""Classes that occur in the test images only."""
IMAGES, SHOTS = 24, 6
"""Images per class, and training images per trained class."""
SIZE = IMAGES * (len(TRAINED) + len(NEW))
ABOUT = f"{TITLE}. {CREDIT} Licence: {LICENSE}."
TIME = (2026, 1, 1, 0, 0, 0)
"""Time of each zip entry, so that equal images give an equal zip."""


class SampleNotFound(ExpectedError):
    code = "sample_not_found"
    status = 404


class FolderInUse(ExpectedError):
    """The target folder contains other files."""


def check_name(name: str) -> None:
    """Raise SampleNotFound for the name of another sample."""
    if name != NAME:
        raise SampleNotFound(f"No sample named {name!r}. Available: {NAME}.")


def paths() -> Iterator[tuple[str, str, int]]:
    """Yield path, class and number of each image. The path is `train/<class>/…` or `test/<class>/…`."""
    for name in (*TRAINED, *NEW):
        numbers = list(range(IMAGES))
        if name in TRAINED:
            random.Random(f"0 {name}").shuffle(numbers)
        for position, number in enumerate(numbers):
            split = "train" if name in TRAINED and position < SHOTS else "test"
            yield f"{split}/{name}/{number:03d}.jpg", name, number


@cache
def archive() -> bytes:
    """Return the images as a zip, which is made once per process. Its comment has the credit."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as file:
        file.comment = ABOUT.encode()
        for path, name, number in paths():
            file.writestr(zipfile.ZipInfo(path, TIME), parts.load(name, number))
    return content.getvalue()


def write(folder: Path) -> None:
    """Write the images and `CREDIT.txt`. A folder with the same files is accepted.

    Raises:
        FolderInUse: the folder contains other files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    present = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    others = present.keys() - {"CREDIT.txt", *(path for path, _, _ in paths())}
    if not others:  # only now, because drawing takes seconds
        files = {path: parts.load(name, number) for path, name, number in paths()}
        files["CREDIT.txt"] = f"{ABOUT}\n".encode()
        others = {name for name, path in present.items() if path.read_bytes() != files[name]}
    if others:
        raise FolderInUse(f"{folder} contains other files, such as {min(others)}. Choose another folder.")
    for name, data in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
