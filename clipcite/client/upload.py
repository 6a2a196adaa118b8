"""Labelled images as the fields and files of POST /adapt."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from clipcite.client.errors import InvalidImages
from clipcite.client.multipart import Part, zip_of
from clipcite.datasets.dataset import ByClass, Dataset, Labelled, dataset_of
from clipcite.datasets.detect import read
from clipcite.datasets.image import ImageFile
from clipcite.datasets.repack import TARS, is_tar, zip_of_tar

ARCHIVES = (".zip", *TARS)
Adaptable = str | os.PathLike[str] | ByClass | Dataset
"""A folder, a manifest or an export of an annotation tool, an archive, or images by class."""


@dataclass(frozen=True)
class Upload:
    parts: Sequence[Part]
    fields: Sequence[tuple[str, str]] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    """For each file name that the service sees what it is called here."""

    def local_name(self, file: str | None) -> str | None:
        return self.names.get(file, file) if file is not None else None


def upload_of(images: Adaptable, test: ByClass | None = None) -> Upload:
    """A zip as it is, a tar repacked as one; all else read as it is recognised.

    Raises:
        InvalidImages: nothing that can be uploaded is there.
    """
    if isinstance(images, str | os.PathLike):
        path = Path(images)
        if test is not None:
            raise InvalidImages("Test images beside a folder or an archive belong into its folder test/.")
        if path.is_file() and path.name.lower().endswith(ARCHIVES):
            return Upload([Part("archive", _zip_at(path), "application/zip")])
        return upload_of_dataset(read(path))
    return upload_of_dataset(images if isinstance(images, Dataset) else dataset_of(images, test))


def model_archive(path: str | os.PathLike[str]) -> ImageFile:
    """The zip of a model; of a folder or a tar one is made. Raises InvalidImages."""
    path = Path(path)
    if not path.is_dir():
        return _zip_at(path)
    files = sorted(one for one in path.rglob("*") if one.is_file() and not one.name.startswith("."))
    return zip_of([(one.relative_to(path).as_posix(), ImageFile.of_file(one)) for one in files])


def _zip_at(path: Path) -> ImageFile:
    return zip_of_tar(path) if path.is_file() and is_tar(path) else ImageFile.of_file(path)


def upload_of_dataset(dataset: Dataset) -> Upload:
    """One zip where every class name can be that of a folder; otherwise files with labels."""
    if not dataset.images:
        raise InvalidImages("There are no images. At least two classes with one each are needed.")
    if all(_can_be_folder(name) for name in dataset.class_names):
        return _zipped(dataset.images)
    return _labelled(dataset.images)


def _zipped(images: Sequence[Labelled]) -> Upload:
    entries: list[tuple[str, ImageFile]] = []
    names: dict[str, str] = {}
    for one in images:
        entry = _free_name(f"{one.split}/{one.class_name}", one.image.name, names)
        names[entry] = str(one.image.path or entry)
        entries.append((entry, one.image))
    return Upload([Part("archive", zip_of(entries), "application/zip")], names=names)


def _labelled(images: Sequence[Labelled]) -> Upload:
    fields, parts, names = [], [], {}
    for one in images:
        prefix = "test_" if one.split == "test" else ""
        fields.append((f"{prefix}labels", one.class_name))
        parts.append(Part(f"{prefix}images", one.image))
        names[one.image.name] = str(one.image.path or one.image.name)
    return Upload(parts, fields, names)


def _can_be_folder(class_name: str) -> bool:
    trimmed = class_name.strip()
    odd = trimmed.startswith(".") or trimmed == "__MACOSX" or re.search(r"[/\\\0]|^[A-Za-z]:", trimmed)
    return bool(trimmed) and not odd


def _free_name(folder: str, name: str, taken: Mapping[str, str]) -> str:
    """`folder/name`, or with a number where two images of a class are called alike."""
    path = PurePosixPath(name)
    stem = path.stem.lstrip(".") or "image"
    number = 1
    while (entry := f"{folder}/{stem}{'' if number == 1 else f'-{number}'}{path.suffix}") in taken:
        number += 1
    return entry
