"""Detection of the format of labelled images."""

import os
import shlex
from dataclasses import replace
from pathlib import Path

from clipcite.datasets.class_folders import read_folders
from clipcite.datasets.dataset import Dataset
from clipcite.datasets.image import IMAGE_ENDINGS, reading
from clipcite.datasets.label_studio import read_label_studio
from clipcite.datasets.manifests import MANIFESTS, read_imagefolder, read_manifest
from clipcite.errors import InvalidImages

SUPPORTED = (
    "Supported formats: class folders (also below train/ and test/), a CSV or JSONL file with the columns "
    "file_name and label, Hugging Face imagefolder, and a Label Studio JSON export beside its images."
)


def read(path: str | os.PathLike[str], *, label_column: str | None = None) -> Dataset:
    """Read a folder or a file of labelled images.

    Args:
        path: the folder or file.
        label_column: column of a manifest that holds the class (default: detected).

    Raises:
        InvalidImages: an unknown format, an ambiguous manifest, or an unreadable file or folder.
    """
    path = Path(path)
    with reading(path):
        if path.is_dir():
            return _read_folder(path, label_column)
        if not path.is_file():
            raise InvalidImages(f"{path} does not exist. Check the path.")
        if path.suffix.lower() in MANIFESTS:
            return read_manifest(path, label_column)
        export = read_label_studio(path) if path.suffix.lower() == ".json" else None
        if export is None and {".tar", ".tgz"} & {*path.suffixes}:
            raise InvalidImages(f"{path} is a tar. Unpack it with tar xf, and use the folder.")
        if export is None:
            raise InvalidImages(f"The format of {path} is not supported. {SUPPORTED}")
        return export


def _read_folder(root: Path, label_column: str | None) -> Dataset:
    imagefolder = read_imagefolder(root, label_column)
    if imagefolder is not None:
        return imagefolder
    beside = sorted(path for path in root.iterdir() if path.is_file() and not path.name.startswith("."))
    for path in beside:
        if path.suffix.lower() == ".json" and (export := read_label_studio(path)) is not None:
            return export
    tables = [path for path in beside if path.suffix.lower() in MANIFESTS]
    folders = read_folders(root)
    if folders is not None and len(folders.class_names) > 1:
        ignored = [f"ignored {path.name}" for path in tables]
        return replace(folders, notes=[*folders.notes, *ignored])
    if len(tables) == 1:
        return read_manifest(tables[0], label_column)
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise InvalidImages(f"{root} contains several manifests ({names}). Specify one of them.")
    if folders is not None:
        return folders  # one class: the service explains what is missing
    if any(path.suffix.lower() in IMAGE_ENDINGS for path in beside):
        raise InvalidImages(
            f"{root} contains images without labels. To train, put them into one folder per class. To group "
            f"and sort them: clipcite sort {shlex.quote(str(root))}"
        )
    raise InvalidImages(f"{root} contains no labelled images. {SUPPORTED}")
