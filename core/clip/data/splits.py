"""Folds for cross-validation, at about the cost of the training itself.

A fold model is trained like the model, but without the images of its fold. Then it predicts these images.
"""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

MIN_SPLIT_IMAGES = 5
"""Minimum number of images of a class to hold some out. With fewer, too few would be left for training."""
MIN_FOLD_PHOTOS = 100
"""Minimum number of photos in a single fold, which has a fifth of them."""
MAX_FOLD_PHOTOS = 400
"""Maximum number of photos in a single fold: with 400, the accuracy is known to ± 5 points."""


def make_folds(labels: Sequence[int], seed: int, photos: Sequence[int] | None = None) -> list[list[int]]:
    """Return the image indices of each fold, ascending. Without a class of 5 images there are no folds.

    With many images there is one fold of a fifth of the images, at most 400. With few images a fifth would
    be too small (16 images give ± 20 points), so there are two folds of one half each. Then every image is
    predicted, and both fold models together take as long as the training.

    Folds are stratified by class. Images of one photo, such as three of a burst, are in one fold. Images of
    classes with fewer than 5 images, or with a single photo, are in no fold.

    Args:
        photos: number of each image's photo. None: each image is a photo of its own.
    """
    photos = range(len(labels)) if photos is None else photos
    generator = np.random.default_rng(seed)
    classes = [[i for i, own in enumerate(labels) if own == label] for label in sorted(set(labels))]
    shuffled: list[list[list[int]]] = []  # by class, the images of each photo
    for members in classes:
        if len(members) >= MIN_SPLIT_IMAGES and len({photos[i] for i in members}) > 1:
            by_photo: dict[int, list[int]] = {}
            for i in generator.permutation(members).tolist():
                by_photo.setdefault(photos[i], []).append(i)
            shuffled.append([*by_photo.values()])
    share = min(1 / 5, MAX_FOLD_PHOTOS / max(1, sum(map(len, shuffled))))
    fifth = [parts[: max(1, round(share * len(parts)))] for parts in shuffled]
    folds: list[list[int]] = [[], []]
    if sum(map(len, fifth)) >= MIN_FOLD_PHOTOS:
        if sum(map(len, fifth)) > MAX_FOLD_PHOTOS:
            # One photo each of as many classes as fit.
            fifth = [fifth[i] for i in generator.permutation(len(fifth))[:MAX_FOLD_PHOTOS]]
        chosen = [part for parts in fifth for part in parts][:MAX_FOLD_PHOTOS]
        folds = [[i for part in chosen for i in part]]
    elif not shuffled:
        return []
    else:
        for number, parts in enumerate(shuffled):
            for i, part in enumerate(parts):
                # Classes of odd size give their extra photo to alternating halves.
                folds[(i + number) % 2] += part
    return [sorted(fold) for fold in folds]


def in_turns(labels: Sequence[Hashable]) -> list[int]:
    """Return all positions: the first of each label, then the second of each, and so on."""
    seen: Counter[Hashable] = Counter()
    turns = []
    for position, label in enumerate(labels):
        turns.append((seen[label], position))
        seen[label] += 1
    return [position for _, position in sorted(turns)]
