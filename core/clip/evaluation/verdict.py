"""The verdict: a signed-rank test of the gains per image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, wilcoxon

from clipcite.types.report import Verdict
from core.clip.evaluation.accuracy import candidates_of, is_correct
from core.clip.evaluation.predictions import HeldOutPredictions
from core.clip.inference.calibration import MIN_HELD_OUT, cross_calibrated

MAX_P = 0.025
"""Maximum one-sided p of a proven gain or loss."""
MAX_PROBABLE_P = 0.2
"""Maximum one-sided p of a probable gain or loss."""


@dataclass(frozen=True)
class Comparison:
    """The verdict with the numbers behind it."""

    verdict: Verdict
    p: float | None = None
    """One-sided p of the signed-rank test, in the direction of the change in accuracy."""
    more_certain: int | None = None
    """Number of images on which the adapted model is nearer to the true class."""


def judge(held_out: HeldOutPredictions, logit_scale: float) -> Comparison:
    """Compare the adapted with the stock model.

    `better` needs a higher accuracy, and gains per image that tend to be above 0 by a signed-rank test.
    `worse` is the mirror image. With 30 images or more, the gain of an image is the gain in Brier score
    (`brier_gains`). With fewer, it is +1 if only the adapted model classifies the image correctly, and −1 if
    only the stock model does. benchmarks/pages/trust.md has the measurements.
    """
    if not len(held_out.truth):
        return Comparison("not_evaluated")
    which, trained = candidates_of(held_out), held_out.candidates.trained
    before, after = (
        is_correct(scores, held_out.truth, which, trained).astype(np.float64)
        for scores in (held_out.stock, held_out.adapted)
    )
    return compare(before, after, brier_gains(held_out, logit_scale))


def compare(
    before: NDArray[np.float64], after: NDArray[np.float64], gains: NDArray[np.float64] | None = None
) -> Comparison:
    """Compare two models by what each classifies correctly, [N] with 1 or 0, and by the gain of each image.

    Args:
        gains: [N], positive where the second model is better (default: +1, 0 or −1).
    """
    if gains is None:
        gains = after - before
    change = float(after.sum() - before.sum())
    p = signed_rank_p(gains if change >= 0 else -gains)
    verdict: Verdict = "no_clear_gain"
    if change != 0 and p <= MAX_PROBABLE_P:
        proven = p <= MAX_P
        verdict = (
            ("better" if proven else "probably_better")
            if change > 0
            else ("worse" if proven else "probably_worse")
        )
    return Comparison(verdict, p, int((gains > 0).sum()))


def signed_rank_p(differences: NDArray[np.float64]) -> float:
    """Return the one-sided p of Wilcoxon's signed-rank test that the differences tend to be above 0.

    Zeros are dropped. With differences of one size it is a sign test, which is exact. Otherwise it is exact
    for up to 50 differences without ties, and a normal approximation that allows for ties.
    """
    differences = differences[differences != 0]
    if len(np.unique(np.abs(differences))) <= 1:
        return float(binom.sf((differences > 0).sum() - 1, len(differences), 0.5))
    return float(wilcoxon(differences, alternative="greater").pvalue)


def brier_gains(held_out: HeldOutPredictions, logit_scale: float) -> NDArray[np.float64] | None:
    """Return per image the stock model's Brier score minus the adapted model's, [N].

    The Brier score (G. Brier, 1950) of an image is Σ (p − truth)², from 0 to 2; lower is better. Most
    images get the same prediction from both models and add nothing to a difference in accuracy. The Brier
    score uses all of them, so it detects a real gain with fewer images. It is a proper score:
    overconfidence does not pay. Each model gets its own fitted temperature. The candidates are the trained
    classes and the classes of the images.

    Returns:
        None with fewer than 30 images, which are too few to fit a temperature.
    """
    truth = held_out.truth
    if len(truth) < MIN_HELD_OUT:
        return None
    errors = []
    for class_scores in (held_out.stock, held_out.adapted):
        deviations = cross_calibrated(logit_scale * getattr(class_scores, candidates_of(held_out)), truth)
        deviations[np.arange(len(truth)), truth] -= 1
        errors.append(np.square(deviations).sum(axis=1))
    gains: NDArray[np.float64] = errors[0] - errors[1]
    return gains
