"""Anyone's pictures: a folder per class under `train/` and under `test/`."""

from pathlib import Path

from benchmarks.data.dataset import BadDataSet, DataSet, Example
from benchmarks.data.listing import ENDINGS, class_folders, pictures_in
from core.clip.prompts import DEFAULT_TEMPLATES

LAYOUT = "Put the pictures into train/<class name>/ and test/<class name>/, one folder per class."


def read_folders(root: Path) -> DataSet:
    """The pictures of `root/train/<class>/` and `root/test/<class>/`.

    A folder's name is its class's name as it stands, and the labels follow the sorted names of both
    halves together. A class with pictures in `test/` only is one that nobody trains on; one with
    pictures in `train/` only is a wrong answer that can be given.

    Raises:
        BadDataSet: `train/` or `test/` is missing or holds no picture, or a class has none in either.
    """
    found = {half: _pictures_by_class(root / half) for half in ("train", "test")}
    names = sorted(found["train"].keys() | found["test"].keys())
    for name in names:
        if not any(half.get(name) for half in found.values()):
            raise BadDataSet(
                f"The class {name!r} of {root} has no pictures, neither to train nor to test on; "
                f"add some ({_endings()}) or remove its folder."
            )

    def examples(half: str) -> tuple[Example, ...]:
        pictures = found[half]
        return tuple(Example(p, label) for label, name in enumerate(names) for p in pictures.get(name, ()))

    return DataSet(
        name=root.resolve().name,
        class_names=tuple(names),
        templates=DEFAULT_TEMPLATES,
        train=examples("train"),
        test=examples("test"),
    )


def _pictures_by_class(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise BadDataSet(f"There is no folder {folder}. {LAYOUT}")
    pictures = {name: pictures_in(folder / name) for name in class_folders(folder)}
    if not any(pictures.values()):
        raise BadDataSet(f"No folder in {folder} holds a picture ({_endings()}). {LAYOUT}")
    return pictures


def _endings() -> str:
    return ", ".join(sorted(ENDINGS))
