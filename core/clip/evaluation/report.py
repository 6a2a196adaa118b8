"""From what networks answered to the report of an adaptation."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.clip.evaluation.accuracy import Interval, accuracy_interval, paired_bootstrap, verdict
from core.clip.evaluation.forgetting import Forgetting
from core.clip.evaluation.label_issues import LabelIssue
from core.clip.evaluation.predictions import ClassScores, HeldOutPredictions
from core.clip.evaluation.report_text import Recommendation, recommend, summary
from core.clip.inference.calibration import (
    Bin,
    Calibration,
    calibration_error,
    cross_calibrated,
    reliability,
    softmax,
)


@dataclass(frozen=True)
class Accuracies:
    """Of the same images with the same candidates. `adapted` is None where only previews were measured."""

    images: int
    candidates: int
    """Candidates."""
    stock: Interval
    preview: Interval
    adapted: Interval | None
    preview_against_stock: Interval
    adapted_against_stock: Interval | None
    adapted_against_preview: Interval | None


@dataclass(frozen=True)
class ClassResult:
    name: str
    trained_images: int
    images: int
    """That were asked about."""
    recall: float | None
    """Share of its images that get its name; None without images."""
    precision: float | None
    """Share of the images with its name that are its own; None where no image gets it."""
    stock_recall: float | None


@dataclass(frozen=True)
class Mistake:
    position: int
    """Place of the image in the upload, training images first."""
    class_name: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class Reliability:
    """How far probabilities can be believed, with the trained names as candidates."""

    calibrated: bool
    """Whether there were images enough (30) to fit a temperature, which /classify then uses."""
    temperature: float | None
    error_before: float | None
    error_after: float | None
    """ECE; after: with the temperature of the other half of the images."""
    bins: tuple[Bin, ...]
    """As they are after, if calibrated."""


@dataclass(frozen=True)
class CurvePoint:
    alpha: float
    trained_classes: float | None
    """Accuracy of the held_out-out images with the trained names as candidates."""
    all_classes: float | None
    """The same with all names: new ones, or others from ImageNet."""
    new_classes: float | None
    """Accuracy of images of new names with the new names as candidates."""
    text_similarity: float


@dataclass(frozen=True)
class Report:
    verdict: str
    summary: str
    brier_gain: Interval | None
    """By how much the adapted network's probabilities are nearer to the truth than stock's
    (`core.clip.evaluation.accuracy`); None below 30 images."""
    recommendations: tuple[Recommendation, ...]
    measured_on: Mapping[str, Any]
    alpha: float
    """At which the model is served by default, and was measured."""
    trained_classes: Accuracies | None
    all_classes: Accuracies | None
    """Images of trained classes, all names as candidates."""
    new_classes: Accuracies | None
    distractor_classes: tuple[str, ...]
    """The candidates that were not trained."""
    classes: tuple[ClassResult, ...]
    confusion: tuple[tuple[int, ...], ...] | None
    """Row: the true class, column: the predicted one, in the order of `classes`."""
    mistakes: tuple[Mistake, ...]
    label_issues: tuple[Mistake, ...]
    """Training images that look like another class to networks that have not seen them."""
    calibration: Reliability
    curve: tuple[CurvePoint, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


MAX_IMAGES = 24
"""Mistakes and label_issues that are shown."""
Bools = NDArray[np.bool_]


def build_report(
    held_out: HeldOutPredictions,
    *,
    source: str,
    how: str,
    trained_images: Sequence[int],
    alpha: float,
    logit_scale: float,
    calibration: Calibration | None,
    brier_gain: Interval | None,
    label_issues: Sequence[LabelIssue],
    kept: Sequence[Forgetting],
    seconds: Mapping[str, float],
) -> Report:
    """Args:
    source: `test`, `holdout`, `cross_validation` or `preview`.
    how: a sentence that says what was measured on what.
    trained_images: for each trained class.
    label_issues: the surest first.
    seconds: what took how long.
    """
    candidates = held_out.candidates
    trained = np.flatnonzero(held_out.truth < candidates.trained)
    new = np.flatnonzero(held_out.truth >= candidates.trained)
    judge = held_out.preview if held_out.adapted is None else held_out.adapted
    alone, truth = judge.trained_only[trained], held_out.truth[trained]
    of_trained = _accuracies(held_out, trained, "trained_only") if len(trained) else None
    everything = _of_all(held_out)
    result = _verdict(everything, brier_gain)
    confusion = _confusion(alone, truth, candidates.trained) if len(trained) else None
    classes = _classes(candidates.names, trained_images, confusion, held_out, trained)
    return Report(
        verdict=result,
        summary=summary(result, everything, source),
        brier_gain=brier_gain,
        recommendations=recommend(
            result,
            everything,
            brier_gain,
            classes,
            len(label_issues),
            halves=source == "cross_validation" and 2 * len(held_out.truth) > sum(trained_images),
        ),
        measured_on={
            "source": source,
            "images": len(held_out.truth),
            "trained_images": sum(trained_images),
            "how": how,
        },
        alpha=alpha,
        trained_classes=of_trained,
        all_classes=_accuracies(held_out, trained, "all_classes") if len(trained) else None,
        new_classes=_accuracies(held_out, new, "new") if len(new) else None,
        distractor_classes=candidates.names[candidates.trained :],
        classes=classes,
        confusion=None if confusion is None else tuple(tuple(int(n) for n in row) for row in confusion),
        mistakes=_mistakes(
            alone, truth, held_out.positions[trained], candidates.names, logit_scale, calibration
        ),
        label_issues=tuple(
            Mistake(s.position, candidates.names[s.label], candidates.names[s.suggested_label], s.probability)
            for s in label_issues[:MAX_IMAGES]
        ),
        calibration=_reliability(logit_scale * alone, truth, calibration),
        curve=_curve(held_out, kept),
        seconds=seconds,
    )


def job_metrics(
    held_out: HeldOutPredictions | None, brier_gain: Interval | None, *, source: str, trained_images: int
) -> dict[str, Any]:
    """The `metrics` of a job and its model: the report's accuracies of stock and adapted network, and its
    verdict. The candidates are the trained names and those of the images.

    Args:
        held_out: None, or only previews: nothing was measured.
    """
    if held_out is None or held_out.adapted is None:
        return {
            "measured_on": {"source": "none", "images": 0, "trained_images": trained_images},
            "trained_classes": None,
            "new_classes": None,
            "all_classes": None,
            "verdict": "not_measured",
        }
    trained = np.flatnonzero(held_out.truth < held_out.candidates.trained)
    new = np.flatnonzero(held_out.truth >= held_out.candidates.trained)
    everything = _of_all(held_out)

    def shown(of: Accuracies | None) -> dict[str, Any] | None:
        if of is None or of.adapted is None or of.adapted_against_stock is None:
            return None
        difference = vars(of.adapted_against_stock)
        return {"stock": of.stock.value, "adapted": of.adapted.value, "difference": difference}

    def measured(rows: NDArray[np.int64], which: str) -> dict[str, Any] | None:
        return shown(_accuracies(held_out, rows, which)) if len(rows) else None

    return {
        "measured_on": {"source": source, "images": len(held_out.truth), "trained_images": trained_images},
        "trained_classes": measured(trained, "trained_only"),
        "new_classes": measured(new, "new"),
        "all_classes": {
            "trained": measured(trained, "all_classes" if len(new) else "trained_only"),
            "new": measured(new, "all_classes"),
            "all": shown(everything),
        },
        "verdict": _verdict(everything, brier_gain),
    }


def _of_all(held_out: HeldOutPredictions) -> Accuracies:
    """Of all images, with the trained names and those of the images as candidates."""
    new = (held_out.truth >= held_out.candidates.trained).any()
    return _accuracies(held_out, np.arange(len(held_out.truth)), "all_classes" if new else "trained_only")


def _verdict(of_all: Accuracies, brier_gain: Interval | None) -> str:
    if of_all.adapted_against_stock is None:
        return "not_measured"
    return verdict(of_all.adapted_against_stock, brier_gain)


def _right(answers: ClassScores, truth: NDArray[np.int64], which: str, trained: int) -> Bools:
    if which == "new":
        result: Bools = answers.all_classes[:, trained:].argmax(axis=1) + trained == truth
    else:
        result = getattr(answers, which).argmax(axis=1) == truth
    return result


def _accuracies(held_out: HeldOutPredictions, rows: NDArray[np.int64], which: str) -> Accuracies:
    k, truth = held_out.candidates.trained, held_out.truth[rows]
    stock, preview = (_right(a[rows], truth, which, k) for a in (held_out.stock, held_out.preview))
    names = {
        "trained_only": k,
        "all_classes": len(held_out.candidates.names),
        "new": len(held_out.candidates.names) - k,
    }[which]
    adapted = None if held_out.adapted is None else _right(held_out.adapted[rows], truth, which, k)
    interval = partial(accuracy_interval, images_per_fold_model=held_out.images_per_fold_model)
    return Accuracies(
        images=len(rows),
        candidates=names,
        stock=accuracy_interval(stock),
        preview=interval(preview),
        adapted=None if adapted is None else interval(adapted),
        preview_against_stock=paired_bootstrap(preview, stock),
        adapted_against_stock=None if adapted is None else paired_bootstrap(adapted, stock),
        adapted_against_preview=None if adapted is None else paired_bootstrap(adapted, preview),
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
    of_stock = _confusion(held_out.stock.trained_only[trained], held_out.truth[trained], len(trained_images))
    found = []
    for k, count in enumerate(trained_images):
        images, predicted = int(confusion[k].sum()), int(confusion[:, k].sum())
        found.append(
            ClassResult(
                name=names[k],
                trained_images=count,
                images=images,
                recall=float(confusion[k, k]) / images if images else None,
                precision=float(confusion[k, k]) / predicted if predicted else None,
                stock_recall=float(of_stock[k, k]) / images if images else None,
            )
        )
    return tuple(found)


def _mistakes(
    scores: NDArray[np.float64],
    truth: NDArray[np.int64],
    positions: NDArray[np.int64],
    names: Sequence[str],
    logit_scale: float,
    calibration: Calibration | None,
) -> tuple[Mistake, ...]:
    """The surest wrong answers."""
    if not len(truth):
        return ()
    sure = softmax(logit_scale * scores / (calibration.temperature if calibration else 1.0))
    predicted = scores.argmax(axis=1)
    wrong = np.flatnonzero(predicted != truth)
    worst = wrong[np.argsort(-sure[wrong, predicted[wrong]], kind="stable")][:MAX_IMAGES]
    return tuple(
        Mistake(int(positions[i]), names[truth[i]], names[predicted[i]], float(sure[i, predicted[i]]))
        for i in worst
    )


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


def _curve(held_out: HeldOutPredictions, kept: Sequence[Forgetting]) -> tuple[CurvePoint, ...]:
    k, truth = held_out.candidates.trained, held_out.truth[held_out.on_curve]
    trained, new = np.flatnonzero(truth < k), np.flatnonzero(truth >= k)

    def accuracy(alpha: float, rows: NDArray[np.int64], which: str) -> float | None:
        if alpha not in held_out.curve or not len(rows):
            return None
        return float(_right(held_out.curve[alpha][rows], truth[rows], which, k).mean())

    return tuple(
        CurvePoint(
            alpha=point.alpha,
            trained_classes=accuracy(point.alpha, trained, "trained_only"),
            all_classes=accuracy(point.alpha, trained, "all_classes"),
            new_classes=accuracy(point.alpha, new, "new"),
            text_similarity=point.text_similarity,
        )
        for point in kept
    )
