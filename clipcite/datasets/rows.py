"""Conversion of rows (file, class, split) to a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clipcite.client.errors import InvalidImages
from clipcite.datasets.class_folders import notes_of
from clipcite.datasets.dataset import Dataset, Labelled, count_noun
from clipcite.datasets.file_finder import find_files
from clipcite.datasets.image import ImageFile
from clipcite.wire.folders import SPLITS, Warnings, resolve_validation

SPLIT_WORDS: dict[str, str] = SPLITS | {
    "eval": "validation", "evaluation": "validation", "holdout": "test", "unassigned": "train"
}  # fmt: skip
"""Splits by their lower-case words in a column. An empty word also means training."""


@dataclass(frozen=True)
class Row:
    """A row of a manifest or an export."""

    file: str
    label: str | None
    """Class name; None or empty: unlabelled."""
    split: str | None = None


def dataset_of_rows(kind: str, rows: Sequence[Row], root: Path, notes: Sequence[str] = ()) -> Dataset:
    """Build a data set from rows, searching for the files below `root`.

    Raises:
        InvalidImages: no file was found, no row has a label, or a split is unknown.
    """
    files, moved = find_files(root, [row.file for row in rows])
    labels: dict[Path, dict[str, str]] = {}
    missing: list[str] = []
    unknown: list[str] = []
    unlabelled = 0
    for row in rows:
        label = (row.label or "").strip()
        if row.split is None:
            word = row.file.replace("\\", "/").lstrip("./").split("/")[0]
            split = SPLITS.get(word.strip().lower(), "train")
        else:
            word = row.split.strip()
            split = SPLIT_WORDS.get(word.lower(), "" if word else "train")
        file = files.get(row.file)
        if not label:
            unlabelled += 1
        elif not split:
            unknown.append(word)
        elif file is None:
            missing.append(row.file)
        else:
            labels.setdefault(file, {})[label] = split
    several = [file for file, splits in labels.items() if len(splits) > 1]
    if unknown:
        words = ", ".join(map(repr, list(dict.fromkeys(unknown))[:3]))
        raise InvalidImages(
            f"Unknown splits in this {kind}: {words}. Use train, validation and test, or rename the column."
        )
    if not labels:
        raise InvalidImages(
            f"None of the images in this {kind} was found: {missing[0]!r} is not below {root}. Move the "
            f"{kind} to the folder of the images."
            if missing
            else f"No image in this {kind} has a label."
        )
    placed = [
        (file, split, label)
        for file, splits in labels.items()
        if len(splits) == 1
        for label, split in splits.items()
    ]
    warnings: Warnings = []
    kept = resolve_validation(placed, warnings)
    all_notes = [
        *notes,
        *([f"ignored {count_noun(unlabelled, 'row')} without a label"] if unlabelled else []),
        *([f"ignored {count_noun(len(missing), 'missing file')} ({missing[0]}, …)"] if missing else []),
        *([f"ignored {count_noun(len(several), 'image')} with several labels"] if several else []),
        *moved,
        *notes_of(warnings),
    ]
    return Dataset(
        kind, [Labelled(ImageFile.of_file(file), label, split) for file, split, label in kept], all_notes
    )
