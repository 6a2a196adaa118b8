"""Conversion of labelled images to the fields and files of POST /adapt."""

import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, cast

from clipcite.client.request import BINARY, ZIP, FilePart
from clipcite.datasets.dataset import ByClass, Dataset, Labelled, dataset_of
from clipcite.datasets.detect import read
from clipcite.datasets.image import ImageFile, printable
from clipcite.errors import InvalidImages

UNSENDABLE = re.compile(r'["\\\r\n\ud800-\udfff]')
"""Characters that a file name in a form or a zip would lose."""
Adaptable = str | os.PathLike[str] | ByClass | Dataset
"""A folder, a manifest, an export of an annotation tool, an archive, or images by class."""
OnBadImage = Literal["fail", "skip"]
CHECK_SECONDS = 900
"""Read timeout of an upload: the service checks every image before it responds."""


@dataclass(frozen=True)
class Upload:
    """Form fields and files of an upload."""

    files: Sequence[FilePart]
    fields: Mapping[str, Sequence[str]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    """Local file name for each file name in the upload."""

    def local_name(self, file: str) -> str:
        return self.names.get(file, file)

    def close(self) -> None:
        """Close the files, which deletes temporary ones."""
        for _, (_, content, _) in self.files:
            if not isinstance(content, bytes):
                content.close()


def upload_of(images: Adaptable | None, test: ByClass | None = None) -> Upload:
    """Return the upload of images in any supported format. None is an upload without images. A zip is sent
    unchanged.

    Raises:
        InvalidImages: images are missing, or in an unsupported format.
    """
    if images is None:
        return Upload([])
    if isinstance(images, str | os.PathLike):
        path = Path(images)
        if test is not None:
            raise InvalidImages("`test` applies to a mapping only. Put test images into the subfolder test/.")
        if path.is_file() and path.suffix.lower() == ".zip":
            return Upload([("archive", ("images.zip", ImageFile.of_file(path).open(), ZIP))])
        return upload_of_dataset(read(path))
    return upload_of_dataset(images if isinstance(images, Dataset) else dataset_of(images, test))


def model_archive(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a model as a zip. A folder is packed.

    Raises:
        InvalidImages: the archive cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        return ImageFile.of_file(path).open()
    files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    return zip_of([(printable(file.relative_to(path).as_posix()), ImageFile.of_file(file)) for file in files])


def upload_of_dataset(dataset: Dataset) -> Upload:
    """Return one zip if every class name is a valid folder name, else files with labels."""
    if not dataset.images:
        raise InvalidImages(
            "No images found. Give a folder with one folder per class, and at least one image in each "
            "of two classes."
        )
    for name in dataset.class_names:
        if name != printable(name):
            raise InvalidImages(f"The class name {printable(name)!r} is not UTF-8. Rename the class.")
    if all(_can_be_folder(name) for name in dataset.class_names):
        names = _Names()
        items = [
            (names.add(item.image, f"{item.split}/{item.class_name}/"), item.image) for item in dataset.images
        ]
        return Upload([("archive", ("images.zip", zip_of(items), ZIP))], names=names.local)
    return _labelled(dataset.images)


def _labelled(images: Sequence[Labelled]) -> Upload:
    """Return files with labels. Their content is in memory."""
    fields: dict[str, list[str]] = {}
    files: list[FilePart] = []
    names = _Names()
    for item in images:
        prefix = "test_" if item.split == "test" else ""
        fields.setdefault(f"{prefix}labels", []).append(item.class_name)
        files.append((f"{prefix}images", (names.add(item.image), item.image.read(), BINARY)))
    return Upload(files, fields, names.local)


def zip_of(images: Sequence[tuple[str, ImageFile]]) -> BinaryIO:
    """Return a zip in a temporary file. Entries are not compressed, because images already are.

    Raises:
        InvalidImages: a file cannot be read, or the temporary file cannot be written.
    """
    zipped = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        with zipfile.ZipFile(zipped, "w") as archive:
            for name, image in images:
                with image.open() as file, archive.open(name, "w", force_zip64=True) as entry:
                    shutil.copyfileobj(file, entry)
    except OSError as error:
        zipped.close()
        folder = tempfile.gettempdir()
        reason = f"The images can't be packed in {folder}: {error.strerror}. Free space there, or set TMPDIR."
        raise InvalidImages(reason) from error
    zipped.seek(0)
    return cast(BinaryIO, zipped)


def _can_be_folder(class_name: str) -> bool:
    trimmed = class_name.strip()
    odd = trimmed.startswith(".") or trimmed == "__MACOSX" or re.search(r"[/\\\0]|^[A-Za-z]:", trimmed)
    return bool(trimmed) and not odd


class _Names:
    """Unique file names in an upload. `local` has the local file of each name."""

    def __init__(self) -> None:
        self.local: dict[str, str] = {}
        self._numbers: dict[str, int] = {}

    def add(self, image: ImageFile, folder: str = "") -> str:
        """Return the name of an image in the upload. If its own name is taken, a number is appended."""
        path = PurePosixPath(UNSENDABLE.sub("_", image.name))
        stem = folder + (path.stem.lstrip(".") or "image")
        first = name = stem + path.suffix
        while name in self.local:
            self._numbers[first] = number = self._numbers.get(first, 1) + 1
            name = f"{stem}-{number}{path.suffix}"
        self.local[name] = printable(str(image.path or name))
        return name
