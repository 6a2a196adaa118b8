"""Accuracies, differences and the Brier gain with their confidence intervals, and the verdict."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.clip.evaluation.predictions import HeldOutPredictions
from core.clip.inference.calibration import MIN_HELD_OUT, cross_calibrated

DRAWS = 10_000
"""Number of draws from a distribution whose quantiles are needed."""


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


def difference_interval(
    correct: NDArray[np.bool_], baseline_correct: NDArray[np.bool_], *, seed: int = 0
) -> Interval:
    """Return the difference in accuracy of two classifiers on the *same* N images, with a 95% interval.

    Each image is gained, lost or unchanged. As for the interval of C. Clopper and E. Pearson (Biometrika
    1934), the lower end is that of the shares if one more image were lost, the upper end if one more were
    gained. So the interval lies above 0 exactly if `sign_test_p` is below 0.025, also if all images are
    gained. In a cross-validation it describes these fold models, and doesn't count that others might differ.

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


def sign_test_p(gained: int, lost: int, *, share: float = 1.0, seed: int = 0) -> float:
    """Return the one-sided p of the exact sign test that more images are gained than lost.

    For whole numbers it is the probability of `gained` heads or more in `gained + lost` throws of a coin,
    which is that of a Beta(gained, lost + 1) variable below 1/2.

    Args:
        gained, lost, share: as for `probability_better`.
    """
    if not gained:
        return 1.0
    draws = np.random.default_rng(seed).beta(share * gained, share * lost + 1, size=DRAWS)
    return float((draws < 0.5).mean())


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
    draws = np.random.default_rng(seed).beta(share * gained + 0.5, share * lost + 0.5, size=DRAWS)
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
        The number rounded up to tens. None without a gain, if the interval is above 0 already, or above 5
        times `images`: a gain so small may as well be none.
    """
    if difference.value <= 0 or difference.low > 0:
        return None
    half_width = (difference.high - difference.low) / 2
    more = images * (half_width / difference.value) ** 2 - test_images
    return None if more > MAX_MORE_IMAGES * images else max(10, 10 * math.ceil(more / 10))


MAX_P = 0.025
"""Largest one-sided p of a proven gain, or loss."""


def verdict(gained: int, lost: int, brier_gain: BrierGain | None = None, *, share: float = 1.0) -> str:
    """Return `better`, `worse` or `no_clear_gain`.

    `better` needs a higher accuracy, a mean Brier gain above 0, and Brier gains that tend to be above 0 by a
    signed-rank test. Without a Brier gain, below 30 images, it needs more images gained than lost by a sign
    test. `worse` is the mirror image. benchmarks/pages/trust.md has the measurements.

    Args:
        gained, lost, share: as for `probability_better`.
    """
    if brier_gain is None:
        better = sign_test_p(gained, lost, share=share) <= MAX_P
        worse = sign_test_p(lost, gained, share=share) <= MAX_P
    else:
        better = gained > lost and brier_gain.value > 0 and brier_gain.p <= MAX_P
        worse = gained < lost and brier_gain.value < 0 and brier_gain.p >= 1 - MAX_P
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
