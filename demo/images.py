"""Labelled images for training and testing, from the demo or from a folder of the user."""

import os
import random
from dataclasses import dataclass, replace
from pathlib import Path

from clipcite import Dataset
from clipcite.datasets.dataset import Labelled
from clipcite.datasets.image import as_image
from core.clip.errors import InvalidClassNames
from core.clip.prompts import clean_class_name, same_class
from demo.failure import DemoFailed

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
LAYOUT = (
    "DATA must be a folder with train/<class name>/<images> and test/<class name>/<images>, with at least "
    "two classes in train. Classes only in test are new classes."
)


@dataclass(frozen=True)
class LabelledImage:
    """A labelled image; `name` is its path below the class folder."""

    class_name: str
    name: str
    data: bytes | Path

    def read(self) -> bytes:
        return self.data if isinstance(self.data, bytes) else self.data.read_bytes()


@dataclass(frozen=True)
class ImageSplit:
    """Training and test images."""

    train: tuple[LabelledImage, ...]
    test: tuple[LabelledImage, ...]

    @property
    def trained_classes(self) -> list[str]:
        return list(dict.fromkeys(image.class_name for image in self.train))

    @property
    def names(self) -> list[str]:
        """The trained classes, then the new classes, which occur in the test images only."""
        return list(dict.fromkeys(image.class_name for image in (*self.train, *self.test)))

    @property
    def new_classes(self) -> list[str]:
        return self.names[len(self.trained_classes) :]

    def dataset(self) -> Dataset:
        """Return the data set to upload."""
        train = [Labelled(as_image(p.data, p.name), p.class_name) for p in self.train]
        test = [Labelled(as_image(p.data, p.name), p.class_name, "test") for p in self.test]
        return Dataset("images of the demo", [*train, *test])

    def with_shuffled_labels(self, seed: int = 0) -> "ImageSplit":
        """Return a copy with permuted training labels. Test images keep their labels."""
        labels = [image.class_name for image in self.train]
        random.Random(seed).shuffle(labels)
        train = [replace(p, class_name=label) for p, label in zip(self.train, labels, strict=True)]
        # Keep the order of the classes.
        order = {name: i for i, name in enumerate(self.trained_classes)}
        return replace(self, train=tuple(sorted(train, key=lambda p: order[p.class_name])))


def own_folder(folder: Path) -> ImageSplit:
    """Read a folder of the user. Class names that the service treats as equal are merged.

    Raises:
        DemoFailed: a folder without the layout above, or an invalid class name.
    """
    spelling: dict[str, str] = {}
    train = _read_split(folder / "train", spelling)
    if len(spelling) < 2:
        raise DemoFailed(f"{folder} has {len(spelling)} classes with training images.", LAYOUT)
    test = _read_split(folder / "test", spelling)
    if not test:
        raise DemoFailed(f"{folder} has no test images.", LAYOUT)
    return ImageSplit(tuple(train), tuple(test))


def _read_split(folder: Path, spelling: dict[str, str]) -> list[LabelledImage]:
    if not folder.is_dir():
        raise DemoFailed(f"The folder {folder} does not exist.", LAYOUT)
    images = []
    for class_folder in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        files = [p for p in sorted(class_folder.rglob("*")) if _is_image(p.relative_to(class_folder))]
        files = [p for p in files if p.is_file()]
        if not files:
            continue
        try:
            name = clean_class_name(_readable(class_folder.name))
        except InvalidClassNames as error:
            raise DemoFailed(f"{class_folder}: {error}", "Rename the folder.") from error
        name = spelling.setdefault(same_class(name), name)
        for file in files:
            images.append(LabelledImage(name, _readable(str(file.relative_to(class_folder))), file))
    return images


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in path.parts)


def _readable(name: str) -> str:
    """Decode a file name, replacing invalid bytes."""
    return os.fsencode(name).decode(errors="replace")
