"""Anyone's images: a folder per class under `train/` and under `test/`."""

from pathlib import Path

from benchmarks.data.dataset import BadDataSet, DataSet, Example
from benchmarks.data.listing import ENDINGS, class_folders, images_in
from core.clip.prompts import DEFAULT_TEMPLATES

LAYOUT = "Put the images into train/<class name>/ and test/<class name>/, one folder per class."


def read_folders(root: Path) -> DataSet:
    """The images of `root/train/<class>/` and `root/test/<class>/`.

    A folder's name is its class's name as it stands, and the labels follow the sorted names of both
    halves together. A class with images in `test/` only is one that nobody trains on; one with
    images in `train/` only is a wrong answer that can be given.

    Raises:
        BadDataSet: `train/` or `test/` is missing or holds no image, or a class has none in either.
    """
    found = {half: _images_by_class(root / half) for half in ("train", "test")}
    names = sorted(found["train"].keys() | found["test"].keys())
    for name in names:
        if not any(half.get(name) for half in found.values()):
            raise BadDataSet(
                f"The class {name!r} of {root} has no images, neither to train nor to test on; "
                f"add some ({_endings()}) or remove its folder."
            )

    def examples(half: str) -> tuple[Example, ...]:
        images = found[half]
        return tuple(Example(p, label) for label, name in enumerate(names) for p in images.get(name, ()))

    return DataSet(
        name=root.resolve().name,
        class_names=tuple(names),
        templates=DEFAULT_TEMPLATES,
        train=examples("train"),
        test=examples("test"),
    )


def _images_by_class(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise BadDataSet(f"There is no folder {folder}. {LAYOUT}")
    images = {name: images_in(folder / name) for name in class_folders(folder)}
    if not any(images.values()):
        raise BadDataSet(f"No folder in {folder} holds an image ({_endings()}). {LAYOUT}")
    return images


def _endings() -> str:
    return ", ".join(sorted(ENDINGS))
