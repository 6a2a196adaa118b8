"""Accuracies, differences and the Brier gain with their confidence intervals, and the verdict."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.clip.evaluation.predictions import HeldOutPredictions
from core.clip.inference.calibration import MIN_HELD_OUT, cross_calibrated

BOOTSTRAP_SAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """An accuracy, or a difference of two, with its 95% confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class BrierGain(Interval):
    """Mean Brier gain of the images."""

    p: float
    """One-sided p that the Brier gains tend to be above 0 (`signed_rank_p`)."""


def paired_bootstrap(
    correct: NDArray[np.bool_], baseline_correct: NDArray[np.bool_], *, seed: int = 0
) -> Interval:
    """Return the difference in accuracy of two classifiers on the *same* N images.

    Args:
        correct, baseline_correct: [N], True for each image that was classified correctly.

    Returns:
        The difference `correct - baseline_correct`; the interval is the 2.5th and 97.5th percentile of
        its paired bootstrap over images.
    """
    differences = correct.astype(np.int64) - baseline_correct.astype(np.int64)
    # Resampling N values from {-1, 0, 1} is a multinomial draw of their three counts.
    n = len(differences)
    shares = np.array([(differences == value).sum() for value in (-1, 0, 1)]) / n
    counts = np.random.default_rng(seed).multinomial(n, shares, size=BOOTSTRAP_SAMPLES)
    low, high = np.percentile((counts[:, 2] - counts[:, 0]) / n, [2.5, 97.5])
    return Interval(float(differences.mean()), float(low), float(high))


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
    draws = np.random.default_rng(seed).beta(share * k + 0.5, share * (n - k) + 0.5, size=BOOTSTRAP_SAMPLES)
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


def probability_better(gained: int, lost: int, *, share: float = 1.0, seed: int = 0) -> float:
    """Return the probability that the adapted model is more accurate than the stock model.

    Each image is gained, lost or unchanged. With Jeffreys' prior, Dirichlet(1/2, 1/2, 1/2), the share of
    gains among the changes has the distribution Beta(gained + 1/2, lost + 1/2), whatever the number of
    unchanged images. The result is the probability of a share above 1/2.

    Args:
        gained: number of images that only the adapted model classifies correctly.
        lost: number of images that only the stock model classifies correctly.
        share: `effective_share` of the images.
    """
    draws = np.random.default_rng(seed).beta(share * gained + 0.5, share * lost + 0.5, size=BOOTSTRAP_SAMPLES)
    return float((draws > 0.5).mean())


MAX_MORE_IMAGES = 5
"""Largest estimate of further test images, in multiples of the present number."""


def more_test_images(difference: Interval, images: int, test_images: int) -> int | None:
    """Return about how many more test images would move the interval of a positive difference above 0.

    The half width of an interval falls with the square root of the number of images: with
    images · (half width / difference)² of them it is as large as the difference.

    Args:
        images: number of evaluated images.
        test_images: how many of them the next evaluation would use again: all test images, none of a
            cross-validation.

    Returns:
        The number rounded up to tens. None without a gain, or above 5 times `images`: a gain so small may
        as well be none.
    """
    if difference.value <= 0:
        return None
    half_width = (difference.high - difference.low) / 2
    more = images * (half_width / difference.value) ** 2 - test_images
    return None if more > MAX_MORE_IMAGES * images else max(10, 10 * math.ceil(more / 10))


MAX_P = 0.025
"""Largest one-sided p of a proven gain, or loss."""


def verdict(difference: Interval, brier_gain: BrierGain | None = None) -> str:
    """Return `better`, `worse` or `no_clear_gain`.

    `better` needs a higher accuracy, a mean Brier gain above 0, and Brier gains that tend to be above 0 by a
    signed-rank test. Without a Brier gain, below 30 images, it needs the whole interval of the difference
    above 0. `worse` is the mirror image. benchmarks/pages/trust.md has the measurements.

    Args:
        difference: accuracy of the adapted model minus that of the stock model.
    """
    if brier_gain is None:
        better, worse = difference.low > 0, difference.high < 0
    else:
        better = difference.value > 0 and brier_gain.value > 0 and brier_gain.p <= MAX_P
        worse = difference.value < 0 and brier_gain.value < 0 and brier_gain.p >= 1 - MAX_P
    return "better" if better else "worse" if worse else "no_clear_gain"


STANDARD_ERRORS = 2.0
"""Half width of the interval of the Brier gain (standard errors): 95%."""


def brier_gain(held_out: HeldOutPredictions, logit_scale: float) -> BrierGain | None:
    """Return the mean of `brier_gains` with its interval and p; None with fewer than 30 images."""
    gains = brier_gains(held_out, logit_scale)
    if gains is None:
        return None
    error = STANDARD_ERRORS * float(gains.std(ddof=1)) / len(gains) ** 0.5
    mean = float(gains.mean())
    return BrierGain(mean, mean - error, mean + error, signed_rank_p(gains))


def signed_rank_p(differences: NDArray[np.float64]) -> float:
    """Return the one-sided p of Wilcoxon's signed-rank test that the differences tend to be above 0.

    Normal approximation without continuity correction. Zeros are dropped, ties get mean ranks, and the
    variance is corrected for ties (F. Wilcoxon, Biometrics Bulletin 1945).
    """
    differences = differences[differences != 0]
    n = len(differences)
    if n == 0:
        return 0.5
    _, place, counts = np.unique(np.abs(differences), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    variance = n * (n + 1) * (2 * n + 1) / 24 - float((counts**3 - counts).sum()) / 48
    z = (float(ranks[differences > 0].sum()) - n * (n + 1) / 4) / math.sqrt(variance)
    return math.erfc(z / math.sqrt(2)) / 2


def brier_gains(held_out: HeldOutPredictions, logit_scale: float) -> NDArray[np.float64] | None:
    """Return per image the Brier score of the stock model minus that of the adapted model, [N].

    The Brier score (G. Brier, 1950) of an image is Σ (p − truth)², from 0 to 2; lower is better. Most
    images get the same prediction from both models and add nothing to a difference in accuracy. The Brier
    score uses all of them, so it detects a real gain with fewer images. It is a proper score:
    overconfidence does not pay. Each model gets its own fitted temperature. The candidates are the trained
    classes and the classes of the images.

    Returns:
        None with fewer than 30 images, which are too few to fit a temperature.
    """
    truth, k = held_out.truth, held_out.candidates.trained
    if held_out.adapted is None or len(truth) < MIN_HELD_OUT:
        return None
    has_new_classes = bool((truth >= k).any())
    errors = []
    for class_scores in (held_out.stock, held_out.adapted):
        scores = class_scores.all_classes if has_new_classes else class_scores.trained_only
        deviations = cross_calibrated(logit_scale * scores, truth)
        deviations[np.arange(len(truth)), truth] -= 1
        errors.append(np.square(deviations).sum(axis=1))
    gains: NDArray[np.float64] = errors[0] - errors[1]
    return gains
