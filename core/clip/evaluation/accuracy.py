"""Is the adapted network better? Accuracies and differences with intervals, and the verdict."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BOOTSTRAP_SAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """An accuracy, or a difference of two, with its 95 % interval."""

    value: float
    low: float
    high: float


def paired_bootstrap(
    right: NDArray[np.bool_], baseline_right: NDArray[np.bool_], *, seed: int = 0
) -> Interval:
    """The difference in accuracy of two classifiers on the *same* N pictures, resampled by picture.

    Args:
        right, baseline_right: [N], whether each picture was answered rightly.

    Returns:
        The difference `right - baseline_right` and the 2.5 and 97.5 percentiles of its resamples.
    """
    differences = right.astype(np.int64) - baseline_right.astype(np.int64)
    # A resample of N values out of {-1, 0, 1} is a multinomial draw of their three counts.
    n = len(differences)
    shares = np.array([(differences == value).sum() for value in (-1, 0, 1)]) / n
    counts = np.random.default_rng(seed).multinomial(n, shares, size=BOOTSTRAP_SAMPLES)
    low, high = np.percentile((counts[:, 2] - counts[:, 0]) / n, [2.5, 97.5])
    return Interval(float(differences.mean()), float(low), float(high))


def accuracy_interval(
    right: NDArray[np.bool_], *, learned_from: int | None = None, seed: int = 0
) -> Interval:
    """An accuracy with its 95 % interval, also where the pictures are few or all are right.

    Jeffreys' interval (L. Brown, T. Cai and A. DasGupta, Statistical Science 2001): the percentiles of
    Beta(k + 1/2, n - k + 1/2) for k of n right. A bootstrap of 10 right answers out of 10 is sure of 100 %.

    In a cross-validation the pictures that are asked about are also those that others learn from, so they
    say less than as many fresh ones: by the correction of C. Nadeau and Y. Bengio (Machine Learning 2003) the
    variance is 1 + n / m times as large where each network learned from m of the pictures. Here n counts as
    n / (1 + n / m).

    Args:
        right: [n], answers of all networks together.
        learned_from: m; None where the pictures are apart from those that were trained on.
    """
    n, k = len(right), int(right.sum())
    share = 1.0 if learned_from is None else learned_from / (learned_from + n)
    draws = np.random.default_rng(seed).beta(share * k + 0.5, share * (n - k) + 0.5, size=BOOTSTRAP_SAMPLES)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(k / n, 0.0 if k == 0 else float(low), 1.0 if k == n else float(high))


def verdict(difference: Interval, brier_gain: Interval | None = None) -> str:
    """`better` or `worse` where the whole interval of the difference in accuracy lies on one side of 0, or
    where it is on that side at all and the whole interval of `brier_gain` (see `core.clip.evaluation.brier`)
    is."""
    if difference.low > 0 or (brier_gain is not None and brier_gain.low > 0 < difference.value):
        return "better"
    if difference.high < 0 or (brier_gain is not None and brier_gain.high < 0 > difference.value):
        return "worse"
    return "no_clear_gain"
