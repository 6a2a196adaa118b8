"""Own images: one folder per class under `train/` and `test/`."""

from pathlib import Path

from benchmarks.data.dataset import BadDataSet, DataSet, Example
from benchmarks.data.listing import ENDINGS, class_folders, images_in
from core.clip.prompts import DEFAULT_TEMPLATES

LAYOUT = "Put the images into train/<class name>/ and test/<class name>/, one folder per class."


def read_folders(root: Path) -> DataSet:
    """Read the images of `root/train/<class>/` and `root/test/<class>/`.

    The folder name is the class name. The labels follow the sorted names of both halves together. A class
    with images in `test/` only is never trained; a class with images in `train/` only is never correct.

    Raises:
        BadDataSet: `train/` or `test/` is missing or has no image, or a class has no image in either.
    """
    found = {half: _images_by_class(root / half) for half in ("train", "test")}
    names = sorted(found["train"].keys() | found["test"].keys())
    for name in names:
        if not any(half.get(name) for half in found.values()):
            raise BadDataSet(
                f"The class {name!r} of {root} has no images, neither for training nor for testing. "
                f"Add some ({_endings()}) or remove its folder."
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
        folder=root,
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
