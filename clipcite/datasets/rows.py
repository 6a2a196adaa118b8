"""Conversion of rows (file, class, split) to a data set, and search for the files that they name."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from clipcite.datasets.class_folders import images_below, notes_of
from clipcite.datasets.dataset import Dataset, Labelled, count_noun
from clipcite.datasets.image import ImageFile
from clipcite.errors import InvalidImages
from clipcite.types.folders import SPLITS, Warnings, resolve_validation

SPLIT_WORDS: dict[str, str] = SPLITS | {
    "eval": "validation", "evaluation": "validation", "holdout": "test", "unassigned": "train"
}  # fmt: skip
"""Splits by their lower-case words in a column. An empty word also means training."""
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
"""Prefix that Label Studio adds to the names of uploaded files."""


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
    files, moved = _find_files(root, [row.file for row in rows])
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
            else f"No image in this {kind} has a label. Fill in the class column, or name it with "
            "--label-column."
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


def _find_files(root: Path, names: Iterable[str]) -> tuple[dict[str, Path], list[str]]:
    """Return the files below `root`, by path first, then by unique file name.

    A file that several names refer to is not taken by its file name: its label would be a guess.

    Args:
        root: the folder.
        names: paths, URLs, or `/data/upload/…` and `/data/local-files/?d=…` of Label Studio.

    Returns:
        The file of each name that was found, and notes about files found in another folder.
    """
    found: dict[str, Path] = {}
    others: dict[str, str] = {}
    for name in dict.fromkeys(names):
        plain = name.replace("\\", "/")
        parts = urlsplit(plain) if "://" in plain or "?d=" in plain else None
        if parts is not None:
            plain = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
        for path in (root / plain, root / plain.lstrip("/")):
            if os.path.isfile(path):  # noqa: PTH113 - False if the name is too long
                found[name] = path
                break
        else:
            others[name] = plain
    if not others:
        return found, []
    below: dict[str, list[Path]] = {}
    for path in images_below(root):
        below.setdefault(path.name, []).append(path)
    by_name: dict[str, Path] = {}
    for name, plain in others.items():
        last = plain.rpartition("/")[2]
        for known in (last, _UPLOADED.sub("", last)):
            if len(below.get(known, [])) == 1:
                by_name[name] = below[known][0]
                break
    uses = Counter([*found.values(), *by_name.values()])
    by_name = {name: path for name, path in by_name.items() if uses[path] == 1}
    # URLs and uploads say nothing about the folder on this machine.
    moved = [n for n in by_name if "/" in others[n] and "://" not in n and not n.startswith("/data/")]
    notes = []
    if moved:
        at = by_name[moved[0]].relative_to(root)
        notes = [f"matched {count_noun(len(moved), 'file')} by name only ({moved[0]} is {at}, …)"]
    return found | by_name, notes
