"""A sample: labelled images of trained classes, and of new classes for the test."""

import io
import random
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from core.errors import ClipCiteError

TIME = (2026, 1, 1, 0, 0, 0)
"""Time of each zip entry, so that equal images give an equal zip."""


class SampleUnavailable(ClipCiteError):
    """The sample does not exist, or its package is not installed."""

    code = "sample_not_found"
    status = 404


class FolderInUse(ClipCiteError):
    """The target folder contains other files."""


@dataclass(frozen=True)
class Sample:
    """A set of labelled images.

    `load(class_name, number)` returns the encoded image `number` of a class, from 0.
    """

    name: str
    title: str
    trained: Mapping[str, int]
    """Trained classes and their numbers of images."""
    new: Mapping[str, int]
    """Classes that occur in the test images only, and their numbers of images."""
    shots: int
    """Training images per trained class."""
    suffix: str
    license: str
    credit: str
    load: Callable[[str, int], bytes]
    problem: Callable[[], str | None] = lambda: None
    """Returns the reason and the remedy if the images are not available."""

    @property
    def classes(self) -> list[str]:
        return [*self.trained, *self.new]

    @property
    def size(self) -> int:
        """Number of images."""
        return sum(self.trained.values()) + sum(self.new.values())

    def paths(self, seed: int = 0) -> Iterator[tuple[str, str, int]]:
        """Yield path, class and number of each image. `seed` chooses the training images."""
        for name, size in self.trained.items():
            numbers = list(range(size))
            random.Random(f"{seed} {name}").shuffle(numbers)
            for position, number in enumerate(numbers):
                split = "train" if position < self.shots else "test"
                yield f"{split}/{name}/{number:03d}.{self.suffix}", name, number
        for name, size in self.new.items():
            for number in range(size):
                yield f"test/{name}/{number:03d}.{self.suffix}", name, number

    def files(self, seed: int = 0) -> Iterator[tuple[str, bytes]]:
        """Yield the path `train/<class>/…` or `test/<class>/…` and the content of each image."""
        for path, name, number in self.paths(seed):
            yield path, self.load(name, number)

    def archive(self) -> bytes:
        """Return the images as a zip. Its comment has the credit."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as file:
            file.comment = self.credit_text().encode()
            for path, data in self.files():
                file.writestr(zipfile.ZipInfo(path, TIME), data)
        return content.getvalue()

    def write(self, folder: Path, seed: int = 0) -> None:
        """Write the images and `CREDIT.txt`. A folder with the same files is accepted.

        Raises:
            FolderInUse: the folder contains other files.
        """
        folder.mkdir(parents=True, exist_ok=True)
        present = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
        others = present.keys() - {"CREDIT.txt", *(name for name, _, _ in self.paths(seed))}
        if not others:  # only now, because drawing takes seconds
            files = {**dict(self.files(seed)), "CREDIT.txt": f"{self.credit_text()}\n".encode()}
            others = {name for name, path in present.items() if path.read_bytes() != files[name]}
        if others:
            raise FolderInUse(f"{folder} contains other files, such as {min(others)}. Choose another folder.")
        for name, data in files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)

    def credit_text(self) -> str:
        return f"{self.title}. {self.credit} Licence: {self.license}."
