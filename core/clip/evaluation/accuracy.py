"""Is the adapted network better? Accuracies and differences with intervals, and the verdict."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.clip.evaluation.predictions import HeldOutPredictions
from core.clip.inference.calibration import MIN_HELD_OUT, cross_calibrated

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
    """The difference in accuracy of two classifiers on the *same* N images, resampled by image.

    Args:
        right, baseline_right: [N], whether each image was answered rightly.

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
    """An accuracy with its 95 % interval, also where the images are few or all are right.

    Jeffreys' interval (L. Brown, T. Cai and A. DasGupta, Statistical Science 2001): the percentiles of
    Beta(k + 1/2, n - k + 1/2) for k of n right. A bootstrap of 10 right answers out of 10 is sure of 100 %.

    In a cross-validation the images that are asked about are also those that others learn from, so they
    say less than as many fresh ones: by the correction of C. Nadeau and Y. Bengio (Machine Learning 2003) the
    variance is 1 + n / m times as large where each network learned from m of the images. Here n counts as
    n / (1 + n / m).

    Args:
        right: [n], answers of all networks together.
        learned_from: m; None where the images are apart from those that were trained on.
    """
    n, k = len(right), int(right.sum())
    share = 1.0 if learned_from is None else learned_from / (learned_from + n)
    draws = np.random.default_rng(seed).beta(share * k + 0.5, share * (n - k) + 0.5, size=BOOTSTRAP_SAMPLES)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(k / n, 0.0 if k == 0 else float(low), 1.0 if k == n else float(high))


def verdict(difference: Interval, brier_gain: Interval | None = None) -> str:
    """`better` or `worse` where the whole interval of the difference in accuracy lies on one side of 0, or
    where it is on that side at all and the whole interval of `brier_gain` (see
    `core.clip.evaluation.accuracy`) is."""
    if difference.low > 0 or (brier_gain is not None and brier_gain.low > 0 < difference.value):
        return "better"
    if difference.high < 0 or (brier_gain is not None and brier_gain.high < 0 > difference.value):
        return "worse"
    return "no_clear_gain"


# Are the adapted network's probabilities nearer to the truth than the stock network's?
#
# How many images are named rightly is a coarse measure: most of them are named alike by both networks, and
# say nothing. The Brier score (G. Brier, 1950) of the probabilities uses all of them, and tells a real gain
# from chance on fewer images. It is a proper score, so that nothing is won by boldness.

ERRORS = 2.0
"""Standard errors on either side: 95 %."""


def brier_gain(held: HeldOutPredictions, logit_scale: float) -> Interval | None:
    """Stock − adapted, since less is better, of the mean over the images of Σ (p − truth)², in 0 … 2; each
    with the temperature that suits it. The candidates are the trained names and those of the images.

    None with fewer than 30 images, which are too few for a temperature.
    """
    truth, k = held.truth, held.candidates.trained
    if held.adapted is None or len(truth) < MIN_HELD_OUT:
        return None
    among = bool((truth >= k).any())
    errors = []
    for answers in (held.stock, held.adapted):
        scores = answers.among if among else answers.alone
        apart = cross_calibrated(logit_scale * scores, truth)
        apart[np.arange(len(truth)), truth] -= 1
        errors.append(np.square(apart).sum(axis=1))
    differences = errors[0] - errors[1]
    error = ERRORS * float(differences.std(ddof=1)) / len(truth) ** 0.5
    mean = float(differences.mean())
    return Interval(mean, mean - error, mean + error)
