"""Which classes are base classes, and which of their images are the shots."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks.data.dataset import BadDataSet, DataSet, Example


def base_classes(split: int, classes: int, *, rounds_up: bool = True) -> list[int]:
    """The labels of the base classes, ascending; all others are the new classes.

    Args:
        split: 0 is the papers' split, the first half of the labels. 1 is the last half; from 2 on, a
            random half with `split` as its seed.
        classes: how many there are, at least 2.
        rounds_up: whether the base classes are the larger half of an odd number (24 of DTD's 47), as
            in the papers.

    Raises:
        ValueError: fewer than 2 classes, or a negative split.
    """
    if classes < 2:
        raise ValueError(f"{classes} class can't be split into base and new classes; at least 2 are needed.")
    if split < 0:
        raise ValueError(f"The split is {split}; it must be 0 or more.")
    order = np.arange(classes)
    if split == 1:
        order = order[::-1]
    elif split > 1:
        order = np.random.default_rng(split).permutation(classes)
    size = (classes + 1) // 2 if rounds_up else classes // 2
    return sorted(order[:size].tolist())


def draw_shots(examples: Sequence[Example], classes: Sequence[int], shots: int, seed: int) -> list[Example]:
    """`shots` images a class without replacement, or all of a class that has fewer.

    An image's rank is a hash of the seed and of its name and folder, and the first ones in rank are
    drawn. So a draw depends on nothing but the seed and the class's own images: not on other
    classes, on labels, on the order of `examples` or on where the data set lies. And draws of one seed
    nest: the 1-shot draw of a class is the first image of its 2-shot draw.

    These are not CoOp's draws, which depend on the state of a global generator.

    Returns:
        The shots class by class, in the order of `classes`, by rank within a class.

    Raises:
        ValueError: `shots` is below 1.
        BadDataSet: a class has no image to draw.
    """
    if shots < 1:
        raise ValueError(f"{shots} shots a class can't be drawn; at least 1 is needed.")
    images: dict[int, list[Example]] = {label: [] for label in classes}
    for example in examples:
        if example.label in images:
            images[example.label].append(example)
    for label, found in images.items():
        if not found:
            raise BadDataSet(
                f"Class {label} has no training images, so it can only be a new class; take it out of the "
                "base classes or add images."
            )
    return [e for found in images.values() for e in sorted(found, key=lambda e: _rank(e, seed))[:shots]]


def _rank(example: Example, seed: int) -> tuple[bytes, str]:
    # The folder counts too: many data sets number the images of every class from 1, and the draws of
    # two classes are not to go hand in hand.
    name = f"{seed}/{example.path.parent.name}/{example.path.name}"
    return hashlib.sha256(name.encode(errors="surrogateescape")).digest(), str(example.path)


def restrict(data: DataSet, classes: Sequence[int]) -> DataSet:
    """The data set with these classes only; labels count in the order of `classes`."""
    labels = {old: new for new, old in enumerate(classes)}

    def kept(examples: Sequence[Example]) -> tuple[Example, ...]:
        return tuple(Example(e.path, labels[e.label]) for e in examples if e.label in labels)

    return replace(
        data,
        class_names=tuple(data.class_names[label] for label in labels),
        train=kept(data.train),
        test=kept(data.test),
    )
