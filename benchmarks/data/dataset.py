"""What every loader returns, and what it raises."""

from dataclasses import dataclass
from pathlib import Path


class BadDataSet(Exception):
    """A data set is missing or not laid out as its loader needs; the message says what to do."""


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
    """As the text tower reads them, in the order of the labels. ImageNet has two names twice
    (missile, sunglasses)."""
    templates: tuple[str, ...]
    """Each with one `{}` for the class name."""
    train: tuple[Example, ...]
    """What shots are drawn from; empty for data sets that only test."""
    test: tuple[Example, ...]
