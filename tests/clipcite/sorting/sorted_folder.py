"""A folder of files that count as images, their answers and log, and its state as data."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from clipcite.sorting.files import Left, carry_out, tidy
from clipcite.sorting.log import How, Log, open_log
from clipcite.sorting.plan import FoundImage, Place, SortedAs, find_images, plan, without_sorted

FILES = {"a.jpg": "cat", "b.jpg": "dog", "below/a.jpg": "cat", "below/c.jpg": "cat", "d.jpg": "unsure"}
"""Class of each file of `make`; the last one has a low probability."""


def make(folder: Path, files: Mapping[str, str] = FILES) -> Path:
    """Write files, whose contents differ."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(f"content of {file}")
    return folder


def start(folder: Path, into: Path) -> Log:
    return open_log(into, {"folder": str(folder), "pile": "pil_1"})[0]


def planned(
    images: Sequence[FoundImage], into: Path, how: How, files: Mapping[str, str] = FILES
) -> Sequence[Place]:
    """Return the places of images, each in its class from `files`, else cat."""
    answers = {}
    for image in images:
        name = files.get(image.path.read_text().removeprefix("content of "), "cat")
        answers[image.key] = SortedAs("dog", 0.5) if name == "unsure" else SortedAs(name, 0.9)
    return plan(images, answers, ["cat", "dog"], into, 0.6, how)


def run(folder: Path, into: Path, how: How, files: Mapping[str, str] = FILES) -> tuple[Log, Left]:
    """Sort as the command does, and continue if it is not the first time."""
    found = find_images(folder, into)
    log = start(folder, into)
    tidy(log)
    places = planned(without_sorted(found, log, []), into, how, files)
    waiting = [place for place in places if place.target and not place.done]
    return log, carry_out(log, waiting, how, lambda done: None)


def state(*roots: Path) -> dict[str, str]:
    """Return the text of each file and link below the folders, without logs."""
    found = {}
    for root in roots:
        for path in sorted(root.rglob("*")):
            if path.is_symlink():
                found[str(path)] = f"link to {path.readlink()}"
            elif path.is_file() and path.suffix != ".jsonl":
                found[str(path)] = path.read_text(encoding="latin-1")
    return found


def log_of(into: Path) -> Path:
    (log,) = into.glob("*.jsonl")
    return log
