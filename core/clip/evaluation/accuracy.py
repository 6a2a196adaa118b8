"""Accuracies and their differences, with confidence intervals, and the metrics of a job."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from clipcite.types.report import (
    Accuracies,
    AllClasses,
    ComparedAccuracies,
    Interval,
    MeasuredOn,
    Metrics,
    Verdict,
)
from core.clip.evaluation.predictions import ClassScores, HeldOutPredictions

MIDDLES = (np.arange(200) + 0.5) / 200
"""Probabilities whose quantiles stand for a distribution, each for an equal part of it."""


def difference_interval(correct: NDArray[np.bool_], baseline_correct: NDArray[np.bool_]) -> Interval:
    """Return the difference in accuracy of two classifiers on the *same* N images, with a 95% interval.

    Each image is gained, lost or unchanged. As in the interval of C. Clopper and E. Pearson (Biometrika
    1934), the lower end assumes one more lost image, and the upper end one more gained image. So the interval
    is above 0 if and only if a one-sided sign test of the changed images has p < 0.025, even when every image
    improves. In a cross-validation it describes these fold models, and does not include the variation between
    fold models.

    Args:
        correct, baseline_correct: [N], True for each image that was classified correctly.
    """
    n = len(correct)
    gained, lost = int((correct & ~baseline_correct).sum()), int((baseline_correct & ~correct).sum())
    # Dirichlet: the shares of changed images, and of gained ones among them, are independent and Beta.
    changed, value = _shares(gained + lost + 1, n - gained - lost), (gained - lost) / n
    lows = np.outer(changed, 2 * _shares(gained, lost + 1) - 1)
    highs = np.outer(changed, 2 * _shares(gained + 1, lost) - 1)
    low, high = np.quantile(lows, 0.025, method="hazen"), np.quantile(highs, 0.975, method="hazen")
    return Interval(value=value, low=min(value, float(low)), high=max(value, float(high)))


def _shares(counted: int, others: int) -> NDArray[np.float64]:
    """Return quantiles of a share whose distribution is Beta(`counted`, `others`)."""
    if not counted or not others:
        return np.full(1, float(counted > 0))
    shares: NDArray[np.float64] = betaincinv(counted, others, MIDDLES)
    return shares


def accuracy_interval(correct: NDArray[np.bool_], *, images_per_fold_model: int | None = None) -> Interval:
    """Return an accuracy with a 95% interval that is valid even for few images and for 100% correct.

    This is Jeffreys' interval (L. Brown, T. Cai and A. DasGupta, Statistical Science 2001): the percentiles
    of Beta(k + 1/2, n - k + 1/2) for k correct images out of n. A bootstrap of 10 correct out of 10 would
    have an interval of width 0.

    In a cross-validation the test images of one fold are training images of another, so n images carry
    less information than n independent ones. By the correction of C. Nadeau and Y. Bengio (Machine Learning
    2003), the variance is 1 + n / m times as large for m training images per fold model, so n counts as
    n / (1 + n / m).

    Args:
        correct: [n], predictions of all fold models together.
        images_per_fold_model: m, a burst counted as one; None if the test images are separate from the
            training images.
    """
    n, k = len(correct), int(correct.sum())
    share = 1.0 if images_per_fold_model is None else images_per_fold_model / (images_per_fold_model + n)
    low, high = betaincinv(share * k + 0.5, share * (n - k) + 0.5, [0.025, 0.975])
    return Interval(value=k / n, low=0.0 if k == 0 else float(low), high=1.0 if k == n else float(high))


def candidates_of(held_out: HeldOutPredictions) -> str:
    """Return the candidates of the verdict: trained classes, or all classes if an image has a new class."""
    return "all_classes" if (held_out.truth >= held_out.candidates.trained).any() else "trained_only"


def is_correct(scores: ClassScores, truth: NDArray[np.int64], which: str, trained: int) -> NDArray[np.bool_]:
    """Return [N], True where the most likely candidate is the true class.

    Args:
        which: candidates: `trained_only`, `all_classes` or `new`.
        trained: number of trained classes.
    """
    if which == "new":
        result: NDArray[np.bool_] = scores.new_only.argmax(axis=1) + trained == truth
    else:
        result = getattr(scores, which).argmax(axis=1) == truth
    return result


def accuracies(held_out: HeldOutPredictions, rows: NDArray[np.int64], which: str) -> Accuracies | None:
    """Return the accuracies on some images, or None without images.

    Args:
        rows: rows of the images in the predictions.
        which: candidates, as for `is_correct`.
    """
    if not len(rows):
        return None
    k, truth = held_out.candidates.trained, held_out.truth[rows]
    stock, adapted = (is_correct(a[rows], truth, which, k) for a in (held_out.stock, held_out.adapted))
    names = len(held_out.candidates.names)
    return Accuracies(
        images=len(rows),
        candidates={"trained_only": k, "all_classes": names, "new": names - k}[which],
        stock=accuracy_interval(stock),
        adapted=accuracy_interval(adapted, images_per_fold_model=held_out.images_per_fold_model),
        adapted_against_stock=difference_interval(adapted, stock),
    )


def overall(held_out: HeldOutPredictions) -> Accuracies | None:
    """Return the accuracies on all images, with the candidates of the verdict."""
    return accuracies(held_out, np.arange(len(held_out.truth)), candidates_of(held_out))


def job_metrics(
    held_out: HeldOutPredictions | None,
    verdict: Verdict = "not_evaluated",
    *,
    source: str,
    trained_images: int,
) -> Metrics:
    """Return the `metrics` of a job and its model: accuracies of both models, and the verdict.

    The candidates are the trained classes and the classes of the images.

    Args:
        held_out: None, or without images, if the model was not evaluated.
        verdict: as in `core.clip.evaluation.verdict.judge`; `evaluating` before the evaluation.
    """
    if held_out is None or not len(held_out.truth):
        nothing = MeasuredOn(source="none", images=0, trained_images=trained_images)
        return Metrics(measured_on=nothing, verdict=verdict)
    is_new = held_out.truth >= held_out.candidates.trained
    trained, new = np.flatnonzero(~is_new), np.flatnonzero(is_new)

    def shown(measured: Accuracies | None) -> ComparedAccuracies | None:
        if measured is None:
            return None
        return ComparedAccuracies(
            stock=measured.stock.value,
            adapted=measured.adapted.value,
            interval=(measured.adapted.low, measured.adapted.high),
            difference=measured.adapted_against_stock,
        )

    return Metrics(
        measured_on=MeasuredOn(
            source=source,
            images=len(held_out.truth),
            trained_images=trained_images,
            fold_models=held_out.fold_models,
        ),
        trained_classes=shown(accuracies(held_out, trained, "trained_only")),
        new_classes=shown(accuracies(held_out, new, "new")),
        all_classes=AllClasses(
            trained=shown(accuracies(held_out, trained, candidates_of(held_out))),
            new=shown(accuracies(held_out, new, "all_classes")),
            all=shown(overall(held_out)),
        ),
        verdict=verdict,
    )
