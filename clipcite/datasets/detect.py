"""What is it? Tells the formats apart by what is there, and says so."""

import os
from dataclasses import replace
from pathlib import Path

from clipcite.client.errors import InvalidImages
from clipcite.datasets.class_folders import read_folders
from clipcite.datasets.dataset import Dataset
from clipcite.datasets.label_studio import read_label_studio
from clipcite.datasets.manifests import MANIFESTS, read_imagefolder, read_manifest

KNOWN = (
    "Known are: a folder of class folders (also below train/ and test/), a CSV or JSONL file with the "
    "columns file_name and label, Hugging Face's imagefolder, and Label Studio's JSON export beside "
    "its images."
)


def read(path: str | os.PathLike[str], *, label_column: str | None = None) -> Dataset:
    """A folder or a file of labelled images.

    Args:
        label_column: the column of the class, where a table leaves it open.

    Raises:
        InvalidImages: nothing that is known, or not clear.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path, label_column)
    if not path.is_file():
        raise InvalidImages(f"There is no {path}.")
    if path.suffix.lower() in MANIFESTS:
        return read_manifest(path, label_column)
    found = read_label_studio(path) if path.suffix.lower() == ".json" else None
    if found is None:
        raise InvalidImages(f"{path} is nothing that can be uploaded. {KNOWN}")
    return found


def _read_folder(root: Path, label_column: str | None) -> Dataset:
    found = read_imagefolder(root, label_column)
    if found is not None:
        return found
    beside = sorted(path for path in root.iterdir() if path.is_file() and not path.name.startswith("."))
    for path in beside:
        if path.suffix.lower() == ".json" and (export := read_label_studio(path)) is not None:
            return export
    tables = [path for path in beside if path.suffix.lower() in MANIFESTS]
    folders = read_folders(root)
    if folders is not None and len(folders.class_names) > 1:
        unread = [f"{path.name} was not read" for path in tables]
        return replace(folders, notes=[*folders.notes, *unread])
    if len(tables) == 1:
        return read_manifest(tables[0], label_column)
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise InvalidImages(f"{root} holds several tables ({names}): give the one that is meant.")
    if folders is not None:
        return folders  # one class: the service says what is missing
    raise InvalidImages(f"{root} holds no labelled images. {KNOWN}")
