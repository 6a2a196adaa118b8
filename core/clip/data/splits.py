"""Folds for cross-validation, at about the cost of the training itself.

A fold model is trained like the model, but without the images of its fold, which it then predicts.
"""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

MIN_SPLIT_IMAGES = 5
"""Minimum number of images of a class to hold some out. With fewer, the rest would be another task."""
MIN_FOLD_IMAGES = 100
"""Minimum number of images in a fifth for cross-validation with a single fold."""
MAX_FOLD_IMAGES = 400
"""Maximum number of images in a single fold: with 400, the accuracy is known to ± 5 points."""
NEAR = 0.5
"""Distance of photos in a row, as a share of the median distance in their class, at most
(benchmarks/plans/rows-of-photos.md)."""


def photo_rows(labels: Sequence[int], features: NDArray[np.float32]) -> list[int]:
    """Return the number of each image's row: each is unusually like the image of its class before it.

    Photos taken one after the other show the same thing. What is usual depends on the network and the class.

    Args:
        features: [N, D], normalised, of the stock model, in the order of the upload.
    """
    rows = np.arange(len(labels))
    for label in set(labels):
        own = np.flatnonzero(np.equal(labels, label))
        distance = 1 - features[own] @ features[own].T
        usual = np.median(distance[np.triu_indices(len(own), 1)]) if len(own) > 1 else 0
        for place in np.flatnonzero(np.diagonal(distance, 1) < NEAR * usual):
            rows[own[place + 1]] = rows[own[place]]
    found: list[int] = rows.tolist()
    return found


def make_folds(labels: Sequence[int], seed: int, rows: Sequence[int] | None = None) -> list[list[int]]:
    """Return the image indices of each fold, ascending; no fold if no class has 5 images in two rows.

    With many images there is one fold of a fifth of the images, at most 400. With few images a fifth would
    be too small (16 images give ± 20 points), so there are two folds of one half each. Every image is then
    predicted, and both fold models together take as long as the training.

    Folds are stratified by class. Images of a class with fewer than 5 images, or one row, are in no fold.

    Args:
        rows: number of each image's row (`photo_rows`), which stays in one fold; None: each image is its own.
    """
    generator = np.random.default_rng(seed)
    row_of = range(len(labels)) if rows is None else rows
    classes: list[list[list[int]]] = []
    for label in sorted(set(labels)):
        members = [i for i, own in enumerate(labels) if own == label]
        if len(members) >= MIN_SPLIT_IMAGES and len({row_of[i] for i in members}) > 1:
            by_row: dict[int, list[int]] = {}
            for i in generator.permutation(members).tolist():
                by_row.setdefault(row_of[i], []).append(i)
            classes.append(list(by_row.values()))
    sizes = [sum(map(len, of_class)) for of_class in classes]
    share = min(1 / 5, MAX_FOLD_IMAGES / max(1, sum(sizes)))
    fifth = [_first(of_class, max(1, round(share * n))) for of_class, n in zip(classes, sizes, strict=True)]
    folds: list[list[int]] = [[], []]
    if sum(map(len, fifth)) >= MIN_FOLD_IMAGES:
        if sum(map(len, fifth)) > MAX_FOLD_IMAGES:
            # One image each of very many classes, not all of which fit.
            fifth = [fifth[i] for i in generator.permutation(len(fifth))[:MAX_FOLD_IMAGES]]
        folds = [[i for members in fifth for i in members][:MAX_FOLD_IMAGES]]
    elif not classes:
        return []
    else:
        for number, of_class in enumerate(classes):
            # The smaller half gets the next row. Equal ones take turns by class.
            halves: list[list[int]] = [[], []]
            for row in of_class:
                first = number % 2
                halves[first if len(halves[first]) <= len(halves[1 - first]) else 1 - first] += row
            for fold, half in zip(folds, halves, strict=True):
                fold += half
    return [sorted(fold) for fold in folds]


def _first(rows: Sequence[Sequence[int]], count: int) -> list[int]:
    """Return whole rows until there are `count` images, but never all rows."""
    found: list[int] = []
    for row in rows[:-1]:
        if len(found) >= count:
            break
        found += row
    return found


def in_turns(labels: Sequence[Hashable]) -> list[int]:
    """Return all positions: the first one of each label, then the second one of each, and so on."""
    seen: Counter[Hashable] = Counter()
    turns = []
    for position, label in enumerate(labels):
        turns.append((seen[label], position))
        seen[label] += 1
    return [position for _, position in sorted(turns)]
