"""Result and error of all loaders."""

from dataclasses import dataclass
from pathlib import Path


class BadDataSet(Exception):
    """A data set is missing or has another layout; the message has the remedy."""


@dataclass(frozen=True)
class Example:
    path: Path
    label: int
    """Index into the data set's class_names."""


@dataclass(frozen=True)
class DataSet:
    """Labelled images on disk, in a fixed order."""

    name: str
    class_names: tuple[str, ...]
    """Class names for the text tower, in the order of the labels. ImageNet has two names twice (missile,
    sunglasses)."""
    templates: tuple[str, ...]
    """Prompt templates, each with one `{}` for the class name."""
    train: tuple[Example, ...]
    """Images from which shots are drawn; empty for data sets that only test."""
    test: tuple[Example, ...]
    folder: Path | None = None
    """Folder of the data set on disk."""
