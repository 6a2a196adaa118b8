"""The report of a training job and its metrics, computed from held-out predictions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.clip.evaluation.accuracy import (
    BrierGain,
    Interval,
    accuracy_interval,
    difference_interval,
    effective_share,
    more_test_images,
    probability_better,
    verdict,
)
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
    """Accuracies on the same images with the same candidates."""

    images: int
    candidates: int
    """Number of candidate classes."""
    stock: Interval
    preview: Interval
    adapted: Interval | None
    """None if only the instant preview was evaluated."""
    preview_against_stock: Interval
    adapted_against_stock: Interval | None
    adapted_against_preview: Interval | None


@dataclass(frozen=True)
class ClassResult:
    """Results of one trained class."""

    name: str
    trained_images: int
    images: int
    """Number of held-out images of the class."""
    recall: float | None
    """None without held-out images."""
    precision: float | None
    """None if the class was never predicted."""
    stock_recall: float | None
    """Recall of the stock model."""


@dataclass(frozen=True)
class Mistake:
    """An image whose prediction differs from its label."""

    position: int
    """Position of the image in the upload, training images first."""
    class_name: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class Change:
    """An image that exactly one of the stock and the adapted model classifies correctly."""

    position: int
    """Position of the image in the upload, training images first."""
    class_name: str
    before: str
    """Prediction of the stock model."""
    predicted: str
    """Prediction of the adapted model."""
    probability: float
    """Probability of `predicted`."""


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
    text_similarity: float
    """Mean cosine of text features with the stock model, over the near and the far classes."""
    near_similarity: float
    """The same over the near classes (`core.clip.evaluation.forgetting`)."""
    far_similarity: float


@dataclass(frozen=True)
class Report:
    """The report of a training job."""

    verdict: str
    summary: str
    brier_gain: BrierGain | None
    """Mean Brier score of the stock model minus that of the adapted model; None below 30 images."""
    probability_better: float | None
    """Probability that the adapted model is more accurate on images like these; None if not evaluated."""
    more_test_images: int | None
    """Estimated number of further test images that would prove the gain (`accuracy.more_test_images`)."""
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
    near_classes: tuple[str, ...]
    """Untrained ImageNet classes near the trained ones, nearest first (`core.clip.evaluation.forgetting`)."""
    far_classes: tuple[str, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


MAX_IMAGES = 24
"""Maximum number of mistakes, and of label issues, in a report."""
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
    brier_gain: BrierGain | None,
    label_issues: Sequence[LabelIssue],
    forgetting: Forgetting,
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
    of_trained = _accuracies(held_out, trained, "trained_only") if len(trained) else None
    everything, which = _of_all(held_out)
    result = _verdict(held_out, which, brier_gain)
    temperature = calibration.temperature if calibration else 1.0
    fixed, broken = _changes(held_out, which, logit_scale, temperature)
    difference = everything.adapted_against_stock
    share = effective_share(len(held_out.truth), held_out.images_per_fold_model)
    chance = None if difference is None else probability_better(len(fixed), len(broken), share=share)
    more = None
    if result == "no_clear_gain" and difference is not None:
        more = more_test_images(difference, everything.images, everything.images if source == "test" else 0)
    confusion = _confusion(scores, truth, candidates.trained) if len(trained) else None
    classes = _classes(candidates.names, trained_images, confusion, held_out, trained)
    return Report(
        verdict=result,
        summary=summary(result, everything, source, sum(trained_images), chance, more),
        brier_gain=brier_gain,
        probability_better=chance,
        more_test_images=more,
        recommendations=recommend(
            result,
            everything,
            brier_gain,
            classes,
            len(label_issues),
            more,
            half_trained=held_out.fold_models == 2,
        ),
        measured_on={
            "source": source,
            "images": len(held_out.truth),
            "trained_images": sum(trained_images),
            "how": how,
        },
        alpha=alpha,
        overall=everything,
        trained_classes=of_trained,
        all_classes=_accuracies(held_out, trained, "all_classes") if len(trained) else None,
        new_classes=_accuracies(held_out, new, "new") if len(new) else None,
        distractor_classes=candidates.names[candidates.trained :],
        classes=classes,
        confusion=None if confusion is None else tuple(tuple(int(n) for n in row) for row in confusion),
        fixed=fixed,
        broken=broken,
        mistakes=_mistakes(
            scores, truth, held_out.positions[trained], candidates.names, logit_scale / temperature
        ),
        label_issues=tuple(
            Mistake(s.position, candidates.names[s.label], candidates.names[s.suggested_label], s.probability)
            for s in label_issues[:MAX_IMAGES]
        ),
        calibration=_reliability(logit_scale * scores, truth, calibration),
        curve=_curve(held_out, forgetting),
        near_classes=forgetting.near_classes,
        far_classes=forgetting.far_classes,
        seconds=seconds,
    )


def job_metrics(
    held_out: HeldOutPredictions | None,
    brier_gain: BrierGain | None,
    *,
    source: str,
    trained_images: int,
    unevaluated: str = "not_evaluated",
) -> dict[str, Any]:
    """Return the `metrics` of a job and its model: accuracies of both models, and the verdict.

    The candidates are the trained classes and the classes of the images.

    Args:
        held_out: None, or without predictions of an adapted model, if the model was not evaluated.
        unevaluated: the verdict in that case.
    """
    if held_out is None or held_out.adapted is None:
        return {
            "measured_on": {"source": "none", "images": 0, "trained_images": trained_images},
            "trained_classes": None,
            "new_classes": None,
            "all_classes": None,
            "verdict": unevaluated,
        }
    trained = np.flatnonzero(held_out.truth < held_out.candidates.trained)
    new = np.flatnonzero(held_out.truth >= held_out.candidates.trained)
    everything, which = _of_all(held_out)

    def shown(accuracies: Accuracies) -> dict[str, Any] | None:
        if accuracies.adapted is None or accuracies.adapted_against_stock is None:
            return None
        return {
            "stock": accuracies.stock.value,
            "adapted": accuracies.adapted.value,
            "difference": vars(accuracies.adapted_against_stock),
        }

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
        "verdict": _verdict(held_out, which, brier_gain),
    }


def _of_all(held_out: HeldOutPredictions) -> tuple[Accuracies, str]:
    """Return the accuracies on all images and their candidates: the trained classes and the images' own."""
    new = (held_out.truth >= held_out.candidates.trained).any()
    which = "all_classes" if new else "trained_only"
    return _accuracies(held_out, np.arange(len(held_out.truth)), which), which


def _verdict(held_out: HeldOutPredictions, which: str, brier_gain: BrierGain | None) -> str:
    if held_out.adapted is None:
        return "not_evaluated"
    before, after = (
        is_correct(scores, held_out.truth, which, held_out.candidates.trained)
        for scores in (held_out.stock, held_out.adapted)
    )
    share = effective_share(len(held_out.truth), held_out.images_per_fold_model)
    return verdict(int((after & ~before).sum()), int((before & ~after).sum()), brier_gain, share=share)


def is_correct(scores: ClassScores, truth: NDArray[np.int64], which: str, trained: int) -> Bools:
    """Return [N], True where the most likely candidate is the true class.

    Args:
        which: candidates: `trained_only`, `all_classes` or `new`.
        trained: number of trained classes.
    """
    if which == "new":
        result: Bools = scores.new_only.argmax(axis=1) + trained == truth
    else:
        result = getattr(scores, which).argmax(axis=1) == truth
    return result


def _accuracies(held_out: HeldOutPredictions, rows: NDArray[np.int64], which: str) -> Accuracies:
    k, truth = held_out.candidates.trained, held_out.truth[rows]
    stock, preview = (is_correct(a[rows], truth, which, k) for a in (held_out.stock, held_out.preview))
    names = {
        "trained_only": k,
        "all_classes": len(held_out.candidates.names),
        "new": len(held_out.candidates.names) - k,
    }[which]
    adapted = None if held_out.adapted is None else is_correct(held_out.adapted[rows], truth, which, k)
    interval = partial(accuracy_interval, images_per_fold_model=held_out.images_per_fold_model)
    return Accuracies(
        images=len(rows),
        candidates=names,
        stock=accuracy_interval(stock),
        preview=interval(preview),
        adapted=None if adapted is None else interval(adapted),
        preview_against_stock=difference_interval(preview, stock),
        adapted_against_stock=None if adapted is None else difference_interval(adapted, stock),
        adapted_against_preview=None if adapted is None else difference_interval(adapted, preview),
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
                stock_recall=float(of_stock[k, k]) / images if images else None,
            )
        )
    return tuple(results)


def _mistakes(
    scores: NDArray[np.float64],
    truth: NDArray[np.int64],
    positions: NDArray[np.int64],
    names: Sequence[str],
    scale: float,
) -> tuple[Mistake, ...]:
    """Return the most confident wrong predictions.

    Args:
        scale: logit scale divided by the temperature.
    """
    if not len(truth):
        return ()
    probabilities = softmax(scale * scores)
    predicted = scores.argmax(axis=1)
    wrong = np.flatnonzero(predicted != truth)
    worst = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:MAX_IMAGES]
    return tuple(
        Mistake(
            int(positions[i]), names[truth[i]], names[predicted[i]], float(probabilities[i, predicted[i]])
        )
        for i in worst
    )


def _changes(
    held_out: HeldOutPredictions, which: str, logit_scale: float, temperature: float
) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """Return the images that only the adapted model gets right, and those that only the stock model does.

    Args:
        which: candidates: `trained_only` or `all_classes`.
        temperature: fitted with the trained classes as candidates. As in the service, requests with
            further classes do without.
    """
    if held_out.adapted is None:
        return (), ()
    truth, names = held_out.truth, held_out.candidates.names
    scores: NDArray[np.float64] = getattr(held_out.adapted, which)
    before = getattr(held_out.stock, which).argmax(axis=1)
    after = scores.argmax(axis=1)
    scale = logit_scale / temperature if which == "trained_only" else logit_scale
    probability = softmax(scale * scores)[np.arange(len(truth)), after]

    def changes(rows: NDArray[np.int64]) -> tuple[Change, ...]:
        by_confidence = rows[np.argsort(-probability[rows], kind="stable")]
        shown: Counter[int] = Counter()
        ranks = []
        for i in by_confidence:
            ranks.append(shown[int(truth[i])])
            shown[int(truth[i])] += 1
        return tuple(
            Change(
                int(held_out.positions[i]),
                names[truth[i]],
                names[before[i]],
                names[after[i]],
                float(probability[i]),
            )
            for i in by_confidence[np.argsort(np.array(ranks, dtype=np.int64), kind="stable")]
        )

    right_before, right_after = before == truth, after == truth
    return changes(np.flatnonzero(~right_before & right_after)), changes(
        np.flatnonzero(right_before & ~right_after)
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


def _curve(held_out: HeldOutPredictions, forgetting: Forgetting) -> tuple[CurvePoint, ...]:
    k, truth = held_out.candidates.trained, held_out.truth[held_out.on_curve]
    trained, new = np.flatnonzero(truth < k), np.flatnonzero(truth >= k)

    def accuracy(alpha: float, rows: NDArray[np.int64], which: str) -> float | None:
        if alpha not in held_out.curve or not len(rows):
            return None
        return float(is_correct(held_out.curve[alpha][rows], truth[rows], which, k).mean())

    return tuple(
        CurvePoint(
            alpha=point.alpha,
            trained_classes=accuracy(point.alpha, trained, "trained_only"),
            all_classes=accuracy(point.alpha, trained, "all_classes"),
            new_classes=accuracy(point.alpha, new, "new"),
            text_similarity=(point.near + point.far) / 2,
            near_similarity=point.near,
            far_similarity=point.far,
        )
        for point in forgetting.by_alpha
    )
