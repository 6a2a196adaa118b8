"""Folds of the cross-validation, sized so that a report costs no more than the training itself.

A fold model is trained like the published model, but without the images of its fold. It then predicts the
classes of those held-out images.
"""

from collections.abc import Sequence

import numpy as np

from core.clip.data.images import Shot

MIN_CLASS_IMAGES = 5
"""Minimum images of a class for holding any of them out. With fewer, the remainder would be another task."""
MIN_FOLD_IMAGES = 100
"""Minimum images in a fifth of the training images for one fold to suffice."""
MAX_FOLD_IMAGES = 400
"""Maximum images in a single fold. 400 images give an accuracy to within ± 5 points."""


def make_folds(labels: Sequence[int], seed: int) -> list[list[int]]:
    """Return per fold model the ascending indices of the images held out from its training.

    With many images, a single fold model holds out a fifth of them, at most 400. With few images a fifth is
    too small: 16 images give an accuracy to within ± 20 points only. Two fold models then train on one half
    each and predict the other half. Every image is predicted, and both trainings together take as long as
    that of the published model.

    Each class is split evenly between the folds. Classes with fewer than 5 images are always trained on and
    never held out. The list is empty if no class has 5 images.
    """
    generator = np.random.default_rng(seed)
    classes = [np.flatnonzero(np.asarray(labels) == label) for label in sorted(set(labels))]
    shuffled = [generator.permutation(of_class) for of_class in classes if len(of_class) >= MIN_CLASS_IMAGES]
    share = min(1 / 5, MAX_FOLD_IMAGES / max(1, sum(map(len, shuffled))))
    fifth = [of_class[: max(1, round(share * len(of_class)))] for of_class in shuffled]
    if sum(map(len, fifth)) >= MIN_FOLD_IMAGES:
        return [sorted(int(i) for of_class in fifth for i in of_class)]
    if not shuffled:
        return []
    halves: list[list[int]] = [[], []]
    for turn, of_class in enumerate(shuffled):
        for place, index in enumerate(of_class):
            halves[(place + turn) % 2].append(int(index))  # the halves take turns with odd images
    return [sorted(half) for half in halves]


def holdout_positions(shots: Sequence[Shot], holdout: float, seed: int) -> set[int]:
    """Return the positions of about the share `holdout` of each class, but never of a whole class."""
    generator = np.random.default_rng(seed)
    out: set[int] = set()
    for name in dict.fromkeys(shot.class_name for shot in shots):
        of_class = [i for i, shot in enumerate(shots) if shot.class_name == name]
        count = min(round(holdout * len(of_class)), len(of_class) - 1)
        out.update(generator.choice(of_class, size=count, replace=False).tolist())
    return out
