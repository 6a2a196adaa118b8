"""Rows that name a file and its class, whatever they were read from, as a data set."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clipcite.client.errors import InvalidImages
from clipcite.datasets.class_folders import SPLITS, resolve_splits
from clipcite.datasets.dataset import Dataset, Labelled
from clipcite.datasets.file_finder import Finder
from clipcite.datasets.image import ImageFile


@dataclass(frozen=True)
class Row:
    file: str
    label: str | None
    """None or empty: nobody has said."""
    split: str | None = None


def dataset_of_rows(kind: str, rows: Iterable[Row], root: Path, notes: Sequence[str] = ()) -> Dataset:
    """Files are looked for below `root`.

    Raises:
        InvalidImages: none of the files is there, or none has a label.
    """
    finder = Finder(root)
    labels: dict[Path, dict[str, str]] = {}
    missing: list[str] = []
    unlabelled = 0
    for row in rows:
        label = (row.label or "").strip()
        file = finder.find(row.file)
        if not label:
            unlabelled += 1
        elif file is None:
            missing.append(row.file)
        else:
            labels.setdefault(file, {})[label] = _split(row)
    several = [file for file, found in labels.items() if len(found) > 1]
    if not labels:
        raise InvalidImages(
            f"This {kind} names no image that is here: {missing[0]!r} is not below {root}. Put it into the "
            "folder of the images."
            if missing
            else f"This {kind} gives no image a label."
        )
    placed = [
        (file, split, label)
        for file, found in labels.items()
        if len(found) == 1
        for label, split in found.items()
    ]
    kept, more = resolve_splits(placed)
    said = [
        *notes,
        *([f"{unlabelled:,} without label passed over"] if unlabelled else []),
        *([f"{len(missing):,} not found ({missing[0]}, …), passed over"] if missing else []),
        *([f"{len(several):,} with several labels passed over"] if several else []),
        *more,
    ]
    names = {label for _, _, label in kept}
    if names and all(name.isdecimal() for name in names):
        said.append("the labels are numbers, which tell CLIP nothing: better use names")
    return Dataset(
        kind, [Labelled(ImageFile.of_file(file), label, split) for file, split, label in kept], said
    )


def _split(row: Row) -> str:
    """Of its own column, or of the folder that the path begins with."""
    named = row.split if row.split is not None else row.file.replace("\\", "/").lstrip("./").split("/")[0]
    return SPLITS.get(named.strip().lower(), "train")
