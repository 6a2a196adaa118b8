"""Readers of CSV, TSV and JSONL manifests, including Hugging Face imagefolder."""

import codecs
import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from clipcite.datasets.dataset import Dataset
from clipcite.datasets.image import IMAGE_ENDINGS
from clipcite.datasets.rows import SPLIT_WORDS, Row, dataset_of_rows
from clipcite.errors import InvalidImages
from clipcite.types.folders import SPLITS

MANIFESTS = {".csv", ".tsv", ".jsonl", ".ndjson"}
FILE_COLUMNS = (
    "file_name", "filename", "file", "file_path", "filepath", "path", "image_path", "image", "img", "image",
    "uri", "url",
)  # fmt: skip
LABEL_COLUMNS = (
    "label", "labels", "class", "class_name", "classname", "category", "tag", "target", "choice", "species",
    "name",
)  # fmt: skip
SPLIT_COLUMNS = ("split", "subset", "set", "ml_use", "partition")
Table = tuple[list[str], list[dict[str, Any]]]
"""Column names and rows."""


def read_manifest(path: Path, label_column: str | None = None) -> Dataset:
    """Read a manifest whose images are in the same folder or below.

    Raises:
        InvalidImages: an unreadable manifest, or ambiguous columns.
    """
    kind = "JSONL manifest" if path.suffix.lower() in {".jsonl", ".ndjson"} else "CSV manifest"
    return dataset_of_rows(kind, _rows(path, label_column), path.parent)


def read_imagefolder(root: Path, label_column: str | None = None) -> Dataset | None:
    """Read `metadata.csv` or `metadata.jsonl`, in `root` or in each split folder.

    Returns:
        The data set, or None without such a file.
    """
    files = [
        path
        for folder in (root, *sorted(p for p in root.iterdir() if p.is_dir() and p.name.lower() in SPLITS))
        for path in (folder / "metadata.csv", folder / "metadata.jsonl")
        if path.is_file()
    ]
    if not files:
        return None
    rows = []
    for path in files:
        inside = path.parent.relative_to(root)
        for row in _rows(path, label_column):
            split = row.split or (inside.name if inside.name else None)
            rows.append(replace(row, file=str(PurePosixPath(inside) / row.file), split=split))
    return dataset_of_rows("Hugging Face imagefolder", rows, root)


def _rows(path: Path, label_column: str | None) -> list[Row]:
    columns, table = _read(path)
    file = _column(columns, FILE_COLUMNS) or _column_of_images(columns, table)
    if file is None:
        raise InvalidImages(
            f"{path.name} has no column of file names, only {', '.join(columns)}. Name the column file_name."
        )
    split = _column(columns, SPLIT_COLUMNS) or _column_of_splits(columns, table)
    others = [column for column in columns if column not in {file, split}]
    if label_column is not None and label_column not in others:
        raise InvalidImages(
            f"{path.name} has no column {label_column!r}. Its columns are {', '.join(others)}."
        )
    label = label_column or _column(others, LABEL_COLUMNS) or _column_of_classes(others, table)
    if label is None:
        raise InvalidImages(
            f"Ambiguous class column in {path.name}; candidates: {', '.join(others) or 'none'}. Select one "
            "with --label-column, or with read_images(…, label_column=…) in Python."
        )
    return [
        Row(str(row[file]), _text(row.get(label)), _text(row.get(split)) if split else None)
        for row in table
        if row.get(file)
    ]


def _read(path: Path) -> Table:
    try:
        with path.open("rb") as file:
            wide = file.read(2) in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}
        text = path.read_text(encoding="utf-16" if wide else "utf-8-sig")
        if "\0" in text:
            raise ValueError("UTF-16 without a byte order mark")
    except ValueError as error:
        raise InvalidImages(f"{path.name} is not UTF-8. In Excel, save it as CSV UTF-8.") from error
    return _json_lines(path, text) if path.suffix.lower() in {".jsonl", ".ndjson"} else _csv(path, text)


def _json_lines(path: Path, text: str) -> Table:
    table = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InvalidImages(
                    f"Line {number} of {path.name} is not JSON ({error}). Write one JSON object per "
                    "line, with the file and its class."
                ) from error
            if not isinstance(row, dict):
                raise InvalidImages(f"Line {number} of {path.name} is not a JSON object.")
            table.append(row)
    return list(dict.fromkeys(key for row in table for key in row)), table


def _csv(path: Path, text: str) -> Table:
    first = text.partition("\n")[0]
    delimiter = max("\t;,", key=first.count)
    try:
        lines = [line for line in csv.reader(io.StringIO(text), delimiter=delimiter) if any(line)]
    except csv.Error as error:
        raise InvalidImages(
            f"{path.name} is not a readable CSV file ({error}). Save it as CSV UTF-8."
        ) from error
    if not lines:
        raise InvalidImages(f"{path.name} is empty. Write one row per image, with its file and its class.")
    if any(_is_image(value) for value in lines[0]):  # no header row: columns are identified by their content
        columns = [f"column {number}" for number in range(1, len(lines[0]) + 1)]
    else:
        columns, lines = [name.strip() for name in lines[0]], lines[1:]
    return columns, [dict(zip(columns, line, strict=False)) for line in lines]


def _column(columns: Sequence[str], names: Sequence[str]) -> str | None:
    known = {column.strip().lower().replace(" ", "_"): column for column in columns}
    return next((known[name] for name in names if name in known), None)


def _column_of_images(columns: Sequence[str], table: Sequence[Mapping[str, Any]]) -> str | None:
    found = [c for c in columns if table and all(_is_image(row.get(c)) for row in table)]
    return found[0] if len(found) == 1 else None


def _column_of_splits(columns: Sequence[str], table: Sequence[Mapping[str, Any]]) -> str | None:
    found = [
        c for c in columns if table and all(str(row.get(c)).strip().lower() in SPLIT_WORDS for row in table)
    ]
    return found[0] if len(found) == 1 else None


def _column_of_classes(columns: Sequence[str], table: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the only column with at least two distinct values, one of them repeated."""
    found = []
    for column in columns:
        values = [text for row in table if (text := _text(row.get(column)))]
        if 1 < len(set(values)) < len(values):
            found.append(column)
    return found[0] if len(found) == 1 else None


def _is_image(value: Any) -> bool:
    return isinstance(value, str) and PurePosixPath(value.split("?")[0]).suffix.lower() in IMAGE_ENDINGS


def _text(value: Any) -> str | None:
    return None if value is None or isinstance(value, list | dict) else str(value)
