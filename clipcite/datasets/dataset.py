"""Labelled images, whatever they came from, and what was found and passed over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from clipcite.client.errors import InvalidImages
from clipcite.datasets.image import ImageFile, ImageLike, as_image

Split = Literal["train", "test"]
ByClass = Mapping[str, Sequence[ImageLike]]


@dataclass(frozen=True)
class Labelled:
    image: ImageFile
    class_name: str
    split: Split = "train"


@dataclass(frozen=True)
class Dataset:
    kind: str
    """What it was recognised as, in words: "class folders", "Label Studio export"."""
    images: Sequence[Labelled]
    notes: Sequence[str] = field(default_factory=tuple)
    """What was passed over or decided, each a sentence fragment: "2 without label passed over"."""

    @property
    def class_names(self) -> list[str]:
        return list(dict.fromkeys(one.class_name for one in self.images))

    def count(self, split: Split) -> int:
        return sum(one.split == split for one in self.images)

    def found(self) -> str:
        """In one line: `found: CSV manifest, 3 classes, 40 images, 10 of them to test; …`"""
        classes, images, test = len(self.class_names), len(self.images), self.count("test")
        words = f"found: {self.kind}, {_count(classes, 'class', 'classes')}, {_count(images, 'image')}"
        words += f", {test} of them to test" if test else ""
        return "; ".join([words, *self.notes])


def dataset_of(images: ByClass, test: ByClass | None = None) -> Dataset:
    """Images given in Python, a list for each class. Raises InvalidImages."""
    splits: tuple[tuple[Split, ByClass], ...] = (("train", images), ("test", test or {}))
    labelled = [
        Labelled(as_image(given, f"{class_name}-{number}"), class_name, split)
        for split, by_class in splits
        for class_name, of_class in by_class.items()
        for number, given in enumerate(_several(class_name, of_class), 1)
    ]
    return Dataset("images by class", labelled)


def _several(class_name: str, of_class: Sequence[ImageLike]) -> Sequence[ImageLike]:
    if isinstance(of_class, str | bytes):
        raise InvalidImages(f"The class {class_name!r} needs a list of images, even for one.")
    return of_class


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
