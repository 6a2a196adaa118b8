"""Layouts of the papers' data sets on disk: one function per layout, from a folder to labelled images.

Validation images of the split files are left out. The papers draw their shots from the training part and
report the last step, so nothing is chosen on the validation part.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.data.dataset import BadDataSet, Example
from benchmarks.data.listing import class_folders, images_in

DATASETS_MD = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"


class Labelled(NamedTuple):
    class_names: tuple[str, ...]
    """Class names as spelt in the files, in the order of the labels."""
    train: tuple[Example, ...]
    test: tuple[Example, ...]


def read_split_file(
    folder: Path, split: str, images: str = "", renamed: Mapping[str, str] | None = None
) -> Labelled:
    """Read the most common layout: a JSON file with `train`, `val` and `test`, each a list of
    [path below `images`, label, class name].

    Args:
        renamed: class names of the papers by folder name, for split files generated from the folders. The
            papers' own split files need no renaming.

    Raises:
        BadDataSet: a file is missing, or the split file has another form.
    """
    file = _existing_file(folder / split)
    root = _existing_folder(folder / images)
    try:
        halves = json.loads(file.read_text(encoding="utf-8"))
        rows = {
            half: [(root / path, int(label), str(name)) for path, label, name in halves[half]]
            for half in ("train", "val", "test")
        }
    except (ValueError, KeyError, TypeError) as error:
        raise BadDataSet(
            f"{file} is not a split file: it must hold train, val and test, each a list of "
            f"[path, label, class name]. Download it again: {DATASETS_MD}"
        ) from error

    name_of: dict[int, str] = {}
    for half in rows.values():
        for _, label, name in half:
            if name_of.setdefault(label, name) != name:
                raise BadDataSet(
                    f"{file} calls label {label} both {name_of[label]!r} and {name!r}. Download it again: "
                    f"{DATASETS_MD}"
                )
    labels = {label: i for i, label in enumerate(sorted(name_of))}
    train, test = (
        tuple(Example(path, labels[label]) for path, label, _ in rows[half]) for half in ("train", "test")
    )
    _check_images(file, train, test)
    names = (name_of[label] for label in labels)
    return Labelled(tuple((renamed or {}).get(name, name) for name in names), train, test)


def read_aircraft(folder: Path) -> Labelled:
    """Read FGVCAircraft.

    `variants.txt` has the class names; `images_variant_{train,test}.txt` has the number and the variant of an
    image per line.

    Raises:
        BadDataSet: a file is missing, or names an unknown variant.
    """
    names = tuple(_lines(folder / "variants.txt"))
    labels = {name: label for label, name in enumerate(names)}
    images = _existing_folder(folder / "images")

    def examples(list_file: Path) -> Iterable[Example]:
        for line in _lines(list_file):
            number, _, variant = line.partition(" ")
            if variant not in labels:
                raise BadDataSet(
                    f"{list_file} names the variant {variant!r}, which is not in variants.txt. Download "
                    f"both again: {DATASETS_MD}"
                )
            yield Example(images / f"{number}.jpg", labels[variant])

    train_file, test_file = (folder / f"images_variant_{half}.txt" for half in ("train", "test"))
    train, test = tuple(examples(train_file)), tuple(examples(test_file))
    _check_images(test_file, train, test)
    return Labelled(names, train, test)


def read_imagenet(folder: Path) -> Labelled:
    """Read ImageNet: a folder per WordNet id under `images/train` and `images/val`.

    `classnames.txt` has the names of the ids. The validation images are the test images, as usual.

    Raises:
        BadDataSet: a file or folder is missing, or a WordNet id has no name.
    """
    train, val = (_existing_folder(folder / "images" / half) for half in ("train", "val"))
    ids = sorted({*class_folders(train), *class_folders(val)})
    names = _names_of(ids, folder / "classnames.txt")
    return Labelled(names, _by_folder(train, ids), _by_folder(val, ids))


def read_imagenet_variant(folder: Path, images: str) -> Labelled:
    """Read a variant of ImageNet with test images only: a folder per WordNet id.

    The existing folders are the classes. ImageNet-A and -R have 200 of the 1,000, and only these 200 are
    candidates, as in the papers.

    Raises:
        BadDataSet: a file or folder is missing, or a WordNet id has no name.
    """
    root = _existing_folder(folder / images)
    ids = class_folders(root)
    return Labelled(_names_of(ids, folder / "classnames.txt"), (), _by_folder(root, ids))


def read_imagenet_v2(folder: Path, images: str) -> Labelled:
    """Read ImageNetV2. Its folders are named by their label from 0, the line in `classnames.txt`.

    Raises:
        BadDataSet: a file or folder is missing.
    """
    names = tuple(_read_class_names(folder / "classnames.txt").values())
    root = _existing_folder(folder / images)
    return Labelled(names, (), _by_folder(root, [str(label) for label in range(len(names))]))


def _by_folder(images: Path, folders: Iterable[str]) -> tuple[Example, ...]:
    examples = tuple(
        Example(path, label)
        for label, name in enumerate(folders)
        if (images / name).is_dir()
        for path in images_in(images / name)
    )
    if not examples:
        raise BadDataSet(
            f"{images} must hold a folder per class with its images, and holds none. The layout is in "
            f"{DATASETS_MD}"
        )
    return examples


def _read_class_names(file: Path) -> dict[str, str]:
    """Read the names by WordNet id, in the order of the labels. A line is `n01440764 tench`."""
    return {wordnet_id: name for wordnet_id, _, name in (line.partition(" ") for line in _lines(file))}


def _names_of(ids: Iterable[str], file: Path) -> tuple[str, ...]:
    names = _read_class_names(file)
    for wordnet_id in ids:
        if wordnet_id not in names:
            raise BadDataSet(
                f"{file} has no line for the folder {wordnet_id}. Download it again: {DATASETS_MD}"
            )
    return tuple(names[wordnet_id] for wordnet_id in ids)


def _lines(file: Path) -> list[str]:
    lines = _existing_file(file).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _existing_file(file: Path) -> Path:
    if not file.is_file():
        raise BadDataSet(f"There is no file {file}. Its source and location are in {DATASETS_MD}")
    return file


def _existing_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise BadDataSet(f"There is no folder {folder}. Its source and location are in {DATASETS_MD}")
    return folder


def _check_images(list_file: Path, *halves: tuple[Example, ...]) -> None:
    """Check that all images exist, before a run rather than an hour into it."""
    paths = [example.path for half in halves for example in half]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise BadDataSet(
            f"{len(missing)} of the {len(paths)} images that {list_file} names are missing, the first is "
            f"{missing[0]}. The layout is in {DATASETS_MD}"
        )
