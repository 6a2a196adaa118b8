"""The report of a training job and its metrics, computed from held-out predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.clip.evaluation.accuracy import (
    Accuracies,
    ClassResult,
    accuracies,
    candidates_of,
    is_correct,
    overall,
)
from core.clip.evaluation.label_issues import LabelIssue
from core.clip.evaluation.mistakes import MAX_SHOWN, Change, Mistake, find_changes, find_mistakes
from core.clip.evaluation.predictions import ClassScores, HeldOutPredictions
from core.clip.evaluation.report_text import Recommendation, recommend, summary
from core.clip.evaluation.verdict import Judgement
from core.clip.inference.calibration import (
    Bin,
    Calibration,
    calibration_error,
    cross_calibrated,
    reliability,
    softmax,
)


@dataclass(frozen=True)
class Reliability:
    """Reliability of the probabilities, with the trained classes as candidates."""

    calibrated: bool
    """True if there were at least 30 images to fit a temperature, which /classify then uses."""
    temperature: float | None
    error_before: float | None
    """ECE before calibration."""
    error_after: float | None
    """ECE after calibration, each half of the images with the temperature of the other half."""
    bins: tuple[Bin, ...]
    """Reliability diagram, after calibration if calibrated."""


@dataclass(frozen=True)
class CurvePoint:
    """Accuracies at one α."""

    alpha: float
    trained_classes: float | None
    """Accuracy on images of trained classes, with the trained classes as candidates."""
    all_classes: float | None
    """Accuracy on the same images, with new or distractor classes added to the candidates."""
    new_classes: float | None
    """Accuracy on images of new classes, with the new classes as candidates."""


@dataclass(frozen=True)
class Report:
    """The report of a training job."""

    verdict: str
    summary: str
    p: float | None
    """One-sided p of the signed-rank test behind the verdict, in the direction of the change; None if not
    evaluated."""
    more_certain: int | None
    """Number of images on which the adapted model is nearer to the true class than the stock model."""
    recommendations: tuple[Recommendation, ...]
    measured_on: Mapping[str, Any]
    alpha: float
    """The α of the evaluation, and the default α of the model."""
    overall: Accuracies
    """Accuracies behind the verdict: all images; the candidates are the trained classes and the images'."""
    trained_classes: Accuracies | None
    all_classes: Accuracies | None
    """Accuracies on images of trained classes, with all classes as candidates."""
    new_classes: Accuracies | None
    distractor_classes: tuple[str, ...]
    """Candidates other than the trained classes."""
    classes: tuple[ClassResult, ...]
    confusion: tuple[tuple[int, ...], ...] | None
    """Confusion matrix in the order of `classes`; rows are true classes, columns predictions."""
    fixed: tuple[Change, ...]
    """All images that the stock model got wrong and the adapted model gets right, with the candidates of
    the verdict. The most confident image of each class comes first, then the second, and so on."""
    broken: tuple[Change, ...]
    """All images that the stock model got right and the adapted model gets wrong, in the same order."""
    mistakes: tuple[Mistake, ...]
    label_issues: tuple[Mistake, ...]
    """Training images that resemble another class, according to models that have not seen them."""
    calibration: Reliability
    curve: tuple[CurvePoint, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


MAX_CONFUSION_CLASSES = 200
"""Maximum number of classes of a confusion matrix, which grows with their square."""


def build_report(
    held_out: HeldOutPredictions,
    *,
    source: str,
    how: str,
    trained_images: Sequence[int],
    alpha: float,
    logit_scale: float,
    calibration: Calibration | None,
    judgement: Judgement,
    label_issues: Sequence[LabelIssue],
    seconds: Mapping[str, float],
) -> Report:
    """Build the report from held-out predictions.

    Args:
        source: `test`, `holdout`, `cross_validation` or `preview`.
        how: a sentence about the method of evaluation.
        trained_images: number of training images of each trained class.
        label_issues: label issues, most confident first.
        seconds: durations by stage.
    """
    candidates = held_out.candidates
    trained = np.flatnonzero(held_out.truth < candidates.trained)
    new = np.flatnonzero(held_out.truth >= candidates.trained)
    best = held_out.preview if held_out.adapted is None else held_out.adapted
    scores, truth = best.trained_only[trained], held_out.truth[trained]
    everything, which = overall(held_out), candidates_of(held_out)
    temperature = calibration.temperature if calibration else 1.0
    fixed, broken = find_changes(held_out, which, logit_scale, temperature)
    confusion = _confusion(scores, truth, candidates.trained) if len(trained) else None
    classes = _classes(candidates.names, trained_images, confusion, held_out, trained)
    return Report(
        verdict=judgement.verdict,
        summary=summary(judgement, everything, source, sum(trained_images)),
        p=judgement.p,
        more_certain=judgement.more_certain,
        recommendations=recommend(
            judgement, everything, classes, len(label_issues), half_trained=held_out.fold_models == 2
        ),
        measured_on={
            "source": source,
            "images": len(held_out.truth),
            "trained_images": sum(trained_images),
            "how": how,
        },
        alpha=alpha,
        overall=everything,
        trained_classes=accuracies(held_out, trained, "trained_only") if len(trained) else None,
        all_classes=accuracies(held_out, trained, "all_classes") if len(trained) else None,
        new_classes=accuracies(held_out, new, "new") if len(new) else None,
        distractor_classes=candidates.names[candidates.trained :],
        classes=classes,
        confusion=None
        if confusion is None or len(confusion) > MAX_CONFUSION_CLASSES
        else tuple(tuple(int(n) for n in row) for row in confusion),
        fixed=fixed,
        broken=broken,
        mistakes=find_mistakes(
            scores, truth, held_out.positions[trained], candidates.names, logit_scale / temperature
        ),
        label_issues=tuple(
            Mistake(s.position, candidates.names[s.label], candidates.names[s.suggested_label], s.probability)
            for s in label_issues[:MAX_SHOWN]
        ),
        calibration=_reliability(logit_scale * scores, truth, calibration),
        curve=_curve(held_out),
        seconds=seconds,
    )


def _confusion(scores: NDArray[np.float64], truth: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (truth, scores.argmax(axis=1)), 1)
    return counts


def _classes(
    names: Sequence[str],
    trained_images: Sequence[int],
    confusion: NDArray[np.int64] | None,
    held_out: HeldOutPredictions,
    trained: NDArray[np.int64],
) -> tuple[ClassResult, ...]:
    if confusion is None:
        return tuple(
            ClassResult(names[k], count, 0, None, None, None) for k, count in enumerate(trained_images)
        )
    stock_confusion = _confusion(
        held_out.stock.trained_only[trained], held_out.truth[trained], len(trained_images)
    )
    results = []
    for k, count in enumerate(trained_images):
        images, predicted = int(confusion[k].sum()), int(confusion[:, k].sum())
        results.append(
            ClassResult(
                name=names[k],
                trained_images=count,
                images=images,
                recall=float(confusion[k, k]) / images if images else None,
                precision=float(confusion[k, k]) / predicted if predicted else None,
                stock_recall=float(stock_confusion[k, k]) / images if images else None,
            )
        )
    return tuple(results)


def _reliability(
    logits: NDArray[np.float64], truth: NDArray[np.int64], calibration: Calibration | None
) -> Reliability:
    if not len(truth):
        return Reliability(False, None, None, None, ())
    before = reliability(softmax(logits), truth)
    if calibration is None:
        return Reliability(False, None, calibration_error(before), None, tuple(before))
    after = reliability(cross_calibrated(logits, truth), truth)
    return Reliability(
        True, calibration.temperature, calibration_error(before), calibration_error(after), tuple(after)
    )


def _curve(held_out: HeldOutPredictions) -> tuple[CurvePoint, ...]:
    k, truth = held_out.candidates.trained, held_out.truth
    trained, new = np.flatnonzero(truth < k), np.flatnonzero(truth >= k)

    def accuracy(scores: ClassScores, rows: NDArray[np.int64], which: str) -> float | None:
        return float(is_correct(scores[rows], truth[rows], which, k).mean()) if len(rows) else None

    return tuple(
        CurvePoint(
            alpha=alpha,
            trained_classes=accuracy(scores, trained, "trained_only"),
            all_classes=accuracy(scores, trained, "all_classes"),
            new_classes=accuracy(scores, new, "new"),
        )
        for alpha, scores in held_out.curve.items()
    )
