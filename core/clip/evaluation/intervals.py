"""Accuracies and their differences, with confidence intervals."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
"""Number of draws from a distribution whose quantiles are needed."""


@dataclass(frozen=True)
class Interval:
    """An accuracy, or a difference of two, with its 95% confidence interval."""

    value: float
    low: float
    high: float


def difference_interval(
    correct: NDArray[np.bool_], baseline_correct: NDArray[np.bool_], *, seed: int = 0
) -> Interval:
    """Return the difference in accuracy of two classifiers on the *same* N images, with a 95% interval.

    Each image is gained, lost or unchanged. As for the interval of C. Clopper and E. Pearson (Biometrika
    1934), the lower end is that of the shares if one more image were lost, the upper end if one more were
    gained. So the interval lies above 0 exactly if a one-sided sign test of the changed images has a p below
    0.025, also if all images are gained. In a cross-validation it describes these fold models, and doesn't
    count that others might differ.

    Args:
        correct, baseline_correct: [N], True for each image that was classified correctly.
    """
    n = len(correct)
    gained, lost = int((correct & ~baseline_correct).sum()), int((baseline_correct & ~correct).sum())
    # Gamma variables divided by their sum have a Dirichlet distribution.
    generator = np.random.default_rng(seed)
    gains, losses, same, one = (
        generator.standard_gamma(count, DRAWS) for count in (gained, lost, n - gained - lost, 1)
    )
    total, value = gains + losses + same + one, (gained - lost) / n
    low = np.percentile((gains - losses - one) / total, 2.5)
    high = np.percentile((gains + one - losses) / total, 97.5)
    return Interval(value, min(value, float(low)), max(value, float(high)))


def accuracy_interval(
    correct: NDArray[np.bool_], *, images_per_fold_model: int | None = None, seed: int = 0
) -> Interval:
    """Return an accuracy with a 95% interval that is valid for few images and for 100% correct.

    Jeffreys' interval (L. Brown, T. Cai and A. DasGupta, Statistical Science 2001): the percentiles of
    Beta(k + 1/2, n - k + 1/2) for k correct images out of n. A bootstrap of 10 correct out of 10 would have
    an interval of width 0. In a cross-validation, images count less (`effective_share`).

    Args:
        correct: [n], predictions of all fold models together.
        images_per_fold_model: as for `effective_share`.
    """
    n, k = len(correct), int(correct.sum())
    share = effective_share(n, images_per_fold_model)
    draws = np.random.default_rng(seed).beta(share * k + 0.5, share * (n - k) + 0.5, size=DRAWS)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(k / n, 0.0 if k == 0 else float(low), 1.0 if k == n else float(high))


def effective_share(images: int, images_per_fold_model: int | None) -> float:
    """Return the information of cross-validated images as a share of that of independent images.

    In a cross-validation the test images of one fold are training images of another, so n images carry
    less information than n independent ones. Correction of C. Nadeau and Y. Bengio (Machine Learning 2003):
    the variance is 1 + n / m times as large for m training images per fold model, so n counts as
    n / (1 + n / m).

    Args:
        images: n.
        images_per_fold_model: m; None if the test images are separate from the training images.
    """
    return 1.0 if images_per_fold_model is None else images_per_fold_model / (images_per_fold_model + images)
