"""Which images are kept out of which sibling, so that a report costs no more than the training itself.

A sibling is trained like the published model but without some of the images, and answers those.
"""

from collections.abc import Sequence

import numpy as np

from core.clip.data.images import Shot

MIN_CLASS_IMAGES = 5
"""Images of a class below which none of them is kept out: what is left would be another task."""
MIN_FOLD_IMAGES = 100
"""Images that a fifth must hold to be the whole measurement."""
MAX_FOLD_IMAGES = 400
"""More tell nothing new: 400 are known to ± 5 points."""


def make_folds(labels: Sequence[int], seed: int) -> list[list[int]]:
    """For each sibling the indices that it is not trained on, ascending; none if no class has 5 images.

    Of many images one sibling leaves out a fifth, or 400. A fifth of few images says nothing (16 images
    are known to ± 20 points), so then there are two, each of which is trained on one half and answers the
    other: every image is answered, and both together take as long as the published training.

    Each class is shared out evenly. Classes with fewer than 5 images are always trained and never asked.
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
            halves[(place + turn) % 2].append(int(index))  # the odd ones out fall to either half
    return [sorted(half) for half in halves]


def holdout_positions(shots: Sequence[Shot], holdout: float, seed: int) -> set[int]:
    """About `holdout` of each class, never the whole of one."""
    generator = np.random.default_rng(seed)
    out: set[int] = set()
    for name in dict.fromkeys(shot.class_name for shot in shots):
        of_class = [i for i, shot in enumerate(shots) if shot.class_name == name]
        count = min(round(holdout * len(of_class)), len(of_class) - 1)
        out.update(generator.choice(of_class, size=count, replace=False).tolist())
    return out
