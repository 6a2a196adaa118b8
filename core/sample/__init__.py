"""The sample: images of trained classes, and of a new class for the test. The project drew them."""

import io
import zipfile
from pathlib import Path

from core.errors import ExpectedError

NAME, TITLE = "parts", "Drawn metal parts"
LICENSE, CREDIT = "Apache-2.0", "Drawn by clipcite."
TRAINED = ("washer", "nut", "gear", "bracket")
NEW = ("screw",)
"""Classes that occur in the test images only."""
IMAGES, SHOTS = 24, 6
"""Images per class, and training images per trained class."""
SIZE = IMAGES * (len(TRAINED) + len(NEW))
ARCHIVE = Path(__file__).with_name("parts.zip")
"""Has `train/<class>/<number>.jpg` and `test/<class>/<number>.jpg`. Its comment has the credit."""


class SampleNotFound(ExpectedError):
    code = "sample_not_found"
    status = 404


class FolderInUse(ExpectedError):
    """The target folder contains other files."""


def check_name(name: str) -> None:
    """Raise SampleNotFound for the name of another sample."""
    if name != NAME:
        raise SampleNotFound(f"No sample named {name!r}. Available: {NAME}.")


def archive() -> bytes:
    """Return the images as a zip."""
    return ARCHIVE.read_bytes()


def images() -> dict[str, bytes]:
    """Return the images by path, `train/<class>/…` or `test/<class>/…`."""
    with zipfile.ZipFile(io.BytesIO(archive())) as file:
        return {name: file.read(name) for name in file.namelist()}


def write(folder: Path) -> None:
    """Write the images and `CREDIT.txt`. A folder with the same files is accepted.

    Raises:
        FolderInUse: the folder contains other files.
    """
    files = {**images(), "CREDIT.txt": f"{TITLE}. {CREDIT} Licence: {LICENSE}.\n".encode()}
    folder.mkdir(parents=True, exist_ok=True)
    present = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    others = present.keys() - files or {n for n, path in present.items() if path.read_bytes() != files[n]}
    if others:
        raise FolderInUse(f"{folder} contains other files, such as {min(others)}. Choose another folder.")
    for name, data in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
