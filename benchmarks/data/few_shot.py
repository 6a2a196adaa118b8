"""Selection of base classes and of shots."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks.data.dataset import BadDataSet, DataSet, Example


def base_classes(split: int, classes: int, *, count: int | None = None) -> list[int]:
    """Return the labels of the base classes, ascending; all others are new classes.

    Args:
        split: 0 is the papers' split, the first half of the labels. 1 is the last half. From 2 on it is the
            seed of a random half.
        classes: number of classes, at least 2.
        count: number of base classes, by default the larger half (24 of DTD's 47), as in the papers. With
            the same split, fewer ones are among more ones.

    Raises:
        ValueError: fewer than 2 classes, a negative split, or no class of one kind.
    """
    if classes < 2:
        raise ValueError(f"{classes} class cannot be split into base and new classes. Use at least 2.")
    if split < 0:
        raise ValueError(f"The split is {split}. It must be 0 or more.")
    order = np.arange(classes)
    if split == 1:
        order = order[::-1]
    elif split > 1:
        order = np.random.default_rng(split).permutation(classes)
    size = (classes + 1) // 2 if count is None else count
    if not 0 < size < classes:
        raise ValueError(f"{size} of {classes} classes cannot be the base classes. Use 1 to {classes - 1}.")
    return sorted(order[:size].tolist())


def draw_shots(examples: Sequence[Example], classes: Sequence[int], shots: int, seed: int) -> list[Example]:
    """Draw `shots` images per class without replacement, or all images of a class that has fewer.

    Images are ranked by a hash of the seed, their name and their folder, and the first ones are drawn. A draw
    therefore depends only on the seed and the class's own images: not on other classes, labels, the order of
    `examples` or the location of the data set. Draws of one seed nest: the 1-shot draw of a class is the
    first image of its 2-shot draw.

    The draws differ from CoOp's, which depend on the state of a global generator.

    Returns:
        The shots by class in the order of `classes`, and by rank within a class.

    Raises:
        ValueError: `shots` is below 1.
        BadDataSet: a class has no image to draw.
    """
    if shots < 1:
        raise ValueError(f"{shots} shots per class cannot be drawn. Use at least 1.")
    images: dict[int, list[Example]] = {label: [] for label in classes}
    for example in examples:
        if example.label in images:
            images[example.label].append(example)
    for label, found in images.items():
        if not found:
            raise BadDataSet(
                f"Class {label} has no training images, so it can only be a new class. Remove it from the "
                "base classes, or add images."
            )
    return [e for found in images.values() for e in sorted(found, key=lambda e: _rank(e, seed))[:shots]]


def _rank(example: Example, seed: int) -> tuple[bytes, str]:
    # The folder is part of the hash: many data sets number the images of each class from 1, and the draws of
    # two classes should be independent.
    name = f"{seed}/{example.path.parent.name}/{example.path.name}"
    return hashlib.sha256(name.encode(errors="surrogateescape")).digest(), str(example.path)


def published_shots(data: DataSet, classes: Sequence[int], shots: int, seed: int) -> list[Example]:
    """Return the shots that 2SFS drew and published, of these classes in the order of the published list.

    2SFS (arXiv 2503.11609) has the seeds 1 to 3, which are 0 to 2 here. Its lists are
    `split_fewshot/shot_{shots}-seed_{seed}_train.jsonl` in the folder of each data set. Their paths
    start in that folder, or with its name, as the published ones.

    Raises:
        BadDataSet: the list is missing or damaged, names an image that is not a training image, or has no
            image of a class.
    """
    if data.folder is None:
        raise BadDataSet(f"{data.name} has no folder, so it has no published draws. Draw shots by hash.")
    file = data.folder / "split_fewshot" / f"shot_{shots}-seed_{seed + 1}_train.jsonl"
    source = "Copy it from the repository of 2SFS, github.com/FarinaMatteo/rethinking_fewshot_vlms."
    if not file.is_file():
        raise BadDataSet(f"There is no file {file}. {source} It has 1, 2, 4, 8 and 16 shots of three seeds.")
    label_of = {example.path: example.label for example in data.train}
    drawn = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            name = json.loads(line)["_impath"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise BadDataSet(f"Line {number} of {file} has no _impath. {source}") from error
        places = (data.folder / name, data.folder.parent / name)
        path = next((place for place in places if place in label_of), None)
        if path is None:
            raise BadDataSet(f"{file} names {name}, which is no training image of {data.name}. {source}")
        drawn.append(Example(path, label_of[path]))
    missing = [data.class_names[label] for label in classes if label not in {e.label for e in drawn}]
    if missing:
        raise BadDataSet(f"{file} has no image of {missing[0]!r}. {source}")
    return [example for example in drawn if example.label in set(classes)]


def restrict(data: DataSet, classes: Sequence[int]) -> DataSet:
    """Return the data set with these classes only, labelled in the order of `classes`."""
    labels = {old: new for new, old in enumerate(classes)}

    def kept(examples: Sequence[Example]) -> tuple[Example, ...]:
        return tuple(Example(e.path, labels[e.label]) for e in examples if e.label in labels)

    return replace(
        data,
        class_names=tuple(data.class_names[label] for label in labels),
        train=kept(data.train),
        test=kept(data.test),
    )
