"""The report of a training job and its metrics, computed from held-out predictions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipcite.types.report import (
    MAX_CONFUSION_CLASSES,
    ClassReport,
    ImageReport,
    RejectionLimit,
    Reliability,
    ReportMeasuredOn,
    StoredReport,
)
from core.clip.evaluation.accuracy import accuracies, candidates_of, overall
from core.clip.evaluation.label_issues import MIN_VOTE_ACCURACY, LabelIssue, too_early
from core.clip.evaluation.mistakes import MAX_SHOWN, find_changes, find_mistakes
from core.clip.evaluation.predictions import FALSE_REJECTION_RATES, HeldOutPredictions, RejectionLimits
from core.clip.evaluation.report_text import recommend
from core.clip.evaluation.verdict import Comparison
from core.clip.inference.calibration import FittedCalibration, calibration_error, cross_calibrated, softmax


def build_report(
    held_out: HeldOutPredictions,
    *,
    source: str,
    how: str,
    trained_images: Sequence[int],
    alpha: float,
    logit_scale: float,
    calibration: FittedCalibration | None,
    judgement: Comparison,
    label_issues: Sequence[LabelIssue],
    label_accuracy: float,
    limits: RejectionLimits | None,
) -> StoredReport:
    """Return the report of held-out predictions.

    Args:
        source: `test`, `cross_validation` or `none`.
        how: a sentence about the method of evaluation.
        trained_images: number of training images of each trained class.
        label_issues: label issues, most confident first.
        label_accuracy: accuracy of the vote on which they are based.
        limits: the model's limits of `something_else`.
    """
    candidates = held_out.candidates
    is_new = held_out.truth >= candidates.trained
    trained, new = np.flatnonzero(~is_new), np.flatnonzero(is_new)
    # Classes, mistakes and changes have the candidates of the verdict, so all of them add up to its accuracy.
    which, truth = candidates_of(held_out), held_out.truth
    scores: NDArray[np.float64] = getattr(held_out.adapted, which)
    temperature = calibration.temperature if calibration else 1.0
    fixed, broken = find_changes(held_out, which, logit_scale, temperature)
    confusion = _confusion(scores, truth)
    stock_confusion = _confusion(getattr(held_out.stock, which), truth)
    classes = _classes(candidates.names, trained_images, confusion, stock_confusion)
    recommendations = recommend(
        judgement,
        overall(held_out),
        classes[: candidates.trained],
        len(label_issues),
        half_trained=held_out.fold_models == 2,
    )
    mistakes = find_mistakes(scores, truth, held_out.positions, candidates.names, logit_scale / temperature)
    issues = [
        ImageReport(
            position=s.position,
            class_name=candidates.names[s.label],
            predicted=candidates.names[s.suggested_label],
            probability=s.probability,
        )
        for s in label_issues[:MAX_SHOWN]
    ]
    shows_confusion = len(truth) and len(confusion) <= MAX_CONFUSION_CLASSES
    return StoredReport(
        verdict=judgement.verdict,
        p=judgement.p,
        more_certain=judgement.more_certain,
        recommendations=recommendations,
        measured_on=ReportMeasuredOn(
            source=source, images=len(truth), trained_images=sum(trained_images), how=how
        ),
        alpha=alpha,
        overall=overall(held_out),
        trained_classes=accuracies(held_out, trained, "trained_only"),
        all_classes=accuracies(held_out, trained, "all_classes"),
        new_classes=accuracies(held_out, new, "new"),
        distractor_classes=list(candidates.names[candidates.trained :]),
        classes=classes,
        confusion_matrix=confusion.tolist() if shows_confusion else None,
        fixed=fixed,
        broken=broken,
        mistakes=mistakes,
        label_issues=issues,
        label_issues_note=too_early(label_accuracy) if label_accuracy < MIN_VOTE_ACCURACY else None,
        calibration=_reliability(
            logit_scale * held_out.adapted.trained_only[trained], truth[trained], calibration
        ),
        rejection=_rejection(held_out, is_new, limits),
    )


def _confusion(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> NDArray[np.int64]:
    counts = np.zeros((scores.shape[1], scores.shape[1]), dtype=np.int64)
    np.add.at(counts, (truth, scores.argmax(axis=1)), 1)
    return counts


def _classes(
    names: Sequence[str],
    trained_images: Sequence[int],
    confusion: NDArray[np.int64],
    stock_confusion: NDArray[np.int64],
) -> list[ClassReport]:
    results = []
    for k in range(len(confusion)):
        images, predicted = int(confusion[k].sum()), int(confusion[:, k].sum())
        results.append(
            ClassReport(
                name=names[k],
                trained_images=trained_images[k] if k < len(trained_images) else 0,
                images=images,
                recall=float(confusion[k, k]) / images if images else None,
                precision=float(confusion[k, k]) / predicted if predicted else None,
                stock_recall=float(stock_confusion[k, k]) / images if images else None,
            )
        )
    return results


def _rejection(
    held_out: HeldOutPredictions, is_new: NDArray[np.bool_], limits: RejectionLimits | None
) -> list[RejectionLimit]:
    """Return what `something_else` does to the images at each limit."""
    if held_out.known is None or limits is None:
        return []
    return [
        RejectionLimit(
            share=share,
            threshold=float(threshold),
            kept=float(known[~is_new].mean()) if not is_new.all() else None,
            marked=float(1 - known[is_new].mean()) if is_new.any() else None,
        )
        for share, threshold, known in zip(FALSE_REJECTION_RATES, limits.at, held_out.known.T, strict=True)
    ]


def _reliability(
    logits: NDArray[np.float64], truth: NDArray[np.int64], calibration: FittedCalibration | None
) -> Reliability:
    """Return the reliability of the probabilities, with the trained classes as candidates.

    For the error after calibration, each half of the images uses the temperature of the other half.
    """
    return Reliability(
        calibrated=calibration is not None,
        temperature=None if calibration is None else calibration.temperature,
        error_before=calibration_error(softmax(logits), truth) if len(truth) else None,
        error_after=calibration_error(cross_calibrated(logits, truth), truth) if calibration else None,
    )
