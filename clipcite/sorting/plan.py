"""Plan of a sort: the images of a folder, and the place of each."""

import filecmp
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from clipcite.datasets.class_folders import images_below
from clipcite.sorting.log import How, Log

UNSURE = "unsure"
"""Folder of the images whose class is unsure."""
SOMETHING_ELSE = "something else"
"""Folder of the images that belong to no class."""
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
"""File names that Windows reserves."""
MAX_NAME = 255
"""Bytes of a file name."""


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image to sort. Its key is another one after a change of its size or time."""

    path: Path
    key: str


@dataclass(frozen=True, slots=True)
class SortedAs:
    """What the sort says about an image."""

    class_name: str | None = None
    """None: something else."""
    probability: float | None = None
    """None if a person said it, or for something else."""
    error: str | None = None
    """Reason why the image can't be sorted."""


@dataclass(frozen=True, slots=True)
class Place:
    """Place of one image: the folder below the target, and the path; None for an image that stays."""

    image: FoundImage
    answer: SortedAs
    class_name: str
    folder: str = ""
    target: Path | None = None
    done: bool = False
    """The image is at its target."""


def find_images(folder: Path, into: Path, unreadable: list[Path] | None = None) -> list[FoundImage]:
    """Return the images below a folder, those behind links to folders excepted.

    Images in the target are sorted already, unless the folder itself is there.

    Args:
        folder: the folder.
        into: the target.
        unreadable: list that gets the unreadable folders; without it, they are an error.
    """
    return [
        FoundImage(path, key_of(path, folder))
        for path in images_below(folder, links=False, unreadable=unreadable)
        if not (folder in into.parents and into in path.parents)
    ]


def key_of(path: Path, folder: Path) -> str:
    """Return the key of an image: size, time and path below the folder."""
    state = path.stat()
    return f"{state.st_size} {state.st_mtime_ns} {path.relative_to(folder).as_posix()}"


def without_sorted(images: Sequence[FoundImage], log: Log, others: Iterable[Log]) -> list[FoundImage]:
    """Leave out copies and links that a sort has made, and images that this one has moved.

    It matters if the folder contains the class folders.
    """
    folder, into = Path(log.subject["folder"]), log.path.parent
    made = {
        into / action.target: (folder / action.source, action.how)
        for each in (*others, log)
        for action in each.actions
        if each is log or action.how != "move"
    }

    def is_sorted(path: Path) -> bool:
        source, how = made.get(path, (path, "move"))
        return not source.exists() if how == "move" else _is_at(source, path, how)

    return [image for image in images if not is_sorted(image.path)]


def plan(
    images: Iterable[FoundImage],
    answers: Mapping[str, SortedAs],
    classes: Iterable[str],
    into: Path,
    unsure: float,
    how: How,
) -> list[Place]:
    """Return the place of each image.

    Something else goes to the folder `SOMETHING_ELSE`, and an image below the probability `unsure` to the
    folder `UNSURE`. An unreadable image stays. File names stay, with a number if the name is taken.

    Args:
        images: the images.
        answers: answers by the key of the image.
        classes: class names. Their order decides which folder name gets a number.
        into: folder of the class folders.
        unsure: limit of the probability.
        how: how images are put into their places.
    """
    named = (answer.class_name for answer in answers.values() if answer.class_name is not None)
    folders = safe_names(dict.fromkeys([*classes, *named]))
    taken: set[str] = set()
    numbers: dict[tuple[str, str], int] = {}
    places = []
    for image in images:
        answer = answers[image.key]
        if answer.error is not None:
            places.append(Place(image, answer, ""))
            continue
        if answer.class_name is None:
            name = folder = SOMETHING_ELSE
        else:
            is_sure = answer.probability is None or answer.probability >= unsure
            name, folder = answer.class_name, folders[answer.class_name] if is_sure else UNSURE
        if _is_same_folder(image.path.parent, into / folder):
            places.append(Place(image, answer, name, folder, image.path, done=True))
            taken.add(str(image.path).casefold())
            continue
        slot = folder, image.path.name.casefold()
        for number in count(numbers.get(slot, 1)):
            target = into / folder / _numbered(image.path, number)
            done = os.path.lexists(target)
            if str(target).casefold() not in taken and (not done or _is_at(image.path, target, how)):
                break
        numbers[slot] = number + 1
        taken.add(str(target).casefold())
        places.append(Place(image, answer, name, folder, target, done))
    return places


def safe_names(classes: Iterable[str]) -> Mapping[str, str]:
    """Return a folder name per class that every system accepts, different also in lower case."""
    taken = {UNSURE, SOMETHING_ELSE}
    names = {}
    for class_name in classes:
        plain = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f]', "_", class_name)
        plain = re.sub(r"^\.", "_", plain.encode()[:120].decode(errors="ignore").strip()).rstrip(". ") or "_"
        plain = f"_{plain}" if DEVICES.match(plain) else plain
        numbered = (plain if number == 1 else f"{plain} ({number})" for number in count(1))
        names[class_name] = next(name for name in numbered if name.casefold() not in taken)
        taken.add(names[class_name].casefold())
    return names


def _is_same_folder(one: Path, other: Path) -> bool:
    """Return whether two paths are one folder, even if only their upper and lower case differ."""
    return one == other or (
        str(one).casefold() == str(other).casefold() and other.is_dir() and one.samefile(other)
    )


def _numbered(path: Path, number: int) -> str:
    """Return the file's name with a number, unless it is 1. A stem that gets too long is cut."""
    if number == 1:
        return path.name
    stem, ending = path.stem, f" ({number}){path.suffix}"
    while len(os.fsencode(stem + ending)) > MAX_NAME:
        stem = stem[:-1]
    return stem + ending


def _is_at(image: Path, target: Path, how: How) -> bool:
    """Return whether an earlier run has put this image there. A moved image is no longer at its old path."""
    try:
        if how == "link":
            return target.is_symlink() and target.readlink() == image
        if how != "copy" or not target.is_file() or target.is_symlink():
            return False
        filecmp.clear_cache()  # it knows files by their size and time
        return filecmp.cmp(image, target, shallow=False)
    except OSError:  # unreadable
        return False
