"""The sentences of jobs, models and reports: verdict, recommendations and method."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from clipcite.types.report import (
    Accuracies,
    ClassReport,
    ComparedAccuracies,
    Interval,
    MeasuredOn,
    Metrics,
    Recommendation,
    StoredReport,
)
from core.clip.config import GOOD_IMAGES

if TYPE_CHECKING:
    from core.clip.evaluation.verdict import Comparison  # it imports scipy.stats, which the API does not need

WEAK = 0.15
"""Gap to the overall recall above which more images of a class are recommended."""
MAX_NAMES = 5
TOO_FEW_IMAGES = "There are too few images to leave some out of training."
VERDICT_WORDS: Mapping[str, str] = {
    "better": "Better",
    "probably_better": "Probably better",
    "no_clear_gain": "No measurable difference",
    "probably_worse": "Probably worse",
    "worse": "Worse",
    "evaluating": "Ready, evaluating",
    "not_evaluated": "Ready, not evaluated",
}
"""Words of each verdict."""


def verdict_sentences(metrics: Metrics, *, reason: str = "", more_certain: int | None = None) -> list[str]:
    """Return the verdict in one to three words, then the numbers behind it.

    Args:
        reason: reason why the model was not evaluated.
        more_certain: number of images on which the adapted model is more certain of the right class.
    """
    title = [f"{VERDICT_WORDS.get(metrics.verdict, metrics.verdict)}."]
    if metrics.verdict == "evaluating":
        return [*title, "You can use it now. The verdict follows."]
    if metrics.verdict == "not_evaluated":
        return [*title, reason] if reason else title
    everything = metrics.all_classes.all if metrics.all_classes else None
    compared = everything or metrics.trained_classes
    if compared is None:
        return title
    images, new = metrics.measured_on.images, metrics.all_classes.new if metrics.all_classes else None
    interval, difference = compared.interval, compared.difference  # None in models of old versions
    likely = "" if interval is None else f" (likely {100 * interval[0]:.0f} to {100 * interval[1]:.0f})"
    points = "" if difference is None else f" ({_points(difference)})"
    found = [
        *title,
        f"{_percent(compared.adapted)} correct{likely}{_evaluated_on(metrics.measured_on)}, "
        f"{_trend(compared)}{points}.",
    ]
    # The interval counts only images whose prediction changed. The verdict counts all.
    unproven = metrics.verdict == "better" and difference is not None and difference.low <= 0
    if unproven and more_certain is not None:
        found.append(f"It is more certain of the right class on {more_certain} of {images} images.")
    if metrics.measured_on.fold_models == 2:
        found.append("Your model is trained on all of them and is probably better.")
    if new is not None:
        found.append(f"Of the new classes alone: {_percent(new.adapted)}, {_trend(new)}.")
    return found


def report_sentences(report: StoredReport, metrics: Metrics) -> list[str]:
    """Return the sentences of a report: those of its metrics, and the accuracy with further names."""
    made = verdict_sentences(metrics, reason=TOO_FEW_IMAGES, more_certain=report.more_certain)
    found, names = report.all_classes, report.distractor_classes
    if found is None or report.new_classes is not None or not names:
        return made
    difference = found.adapted_against_stock
    unproven = " (the change is not proven)" if difference.low <= 0 <= difference.high else ""
    others = f"{len(names)} name{'' if len(names) == 1 else 's'} of other things"
    return [
        *made,
        f"If it may also answer with {others}, {_percent(found.adapted.value)} are correct; before the "
        f"training, {_percent(found.stock.value)} were{unproven}.",
    ]


def _trend(compared: ComparedAccuracies) -> str:
    change = compared.adapted - compared.stock
    return f"{'up' if change > 0 else 'down' if change < 0 else 'unchanged'} from {_percent(compared.stock)}"


def _evaluated_on(measured: MeasuredOn) -> str:
    if measured.source == "test":
        return f" on your {measured.images} test images"
    of = "" if measured.images == measured.trained_images else f"{measured.images} of "
    photos = f"{of}your {measured.trained_images} photos"
    if measured.fold_models == 2:
        return f", measured on {photos} with models that were trained on half of them"
    if measured.fold_models == 1:
        return f", measured on {photos} with a model that was trained without them"
    return f", estimated from {photos}"


def recommend(
    judgement: "Comparison",
    measured: Accuracies | None,
    classes: Sequence[ClassReport],
    label_issues: int,
    *,
    half_trained: bool,
) -> list[Recommendation]:
    """Return the recommended steps, most important first.

    Args:
        half_trained: the fold models were trained on half of the images.
    """
    recommendations: list[Recommendation] = []
    if judgement.verdict == "better":
        p = judgement.p
        assert p is not None
        cases = f"{1000 * p:.0f} of 1,000 cases" if p >= 0.0015 else "1 of 1,000 cases or fewer"
        detail = f"Use the model. Chance explains such a gain in {cases} (signed-rank test)."
        recommendations.append(Recommendation(code="use_it", detail=detail))
    elif judgement.verdict == "not_evaluated":
        detail = "Send at least 5 images per class, or test images, to evaluate the model."
        recommendations.append(Recommendation(code="evaluate", detail=detail))
    else:
        if measured is None or measured.adapted_against_stock.value <= 0:
            detail = "Classify with the pre-trained model. Check class names and labels, and add images."
            recommendations.append(Recommendation(code="stay_with_stock", detail=detail))
        else:
            detail = "The gain is not proven. Send test images to measure it, or training images to raise it."
            recommendations.append(Recommendation(code="evaluate", detail=detail))
        if half_trained:
            detail = (
                "The evaluated fold models were trained on half of your images, the model on all. Send test "
                "images to evaluate the model itself."
            )
            recommendations.append(Recommendation(code="evaluate", detail=detail))
    if label_issues:
        images = (
            "1 training image resembles" if label_issues == 1 else f"{label_issues} training images resemble"
        )
        recommendations.append(
            Recommendation(
                code="check_images",
                detail=f"{images} another class than the label, which is possibly wrong. Check the labels: a "
                "wrong label costs more than a missing image.",
            )
        )
    weak = _weak(classes)
    if weak:
        recommendations.append(
            Recommendation(
                code="add_images",
                detail=f"Add images of {_listed(weak)}, which have the lowest recall.",
                class_names=weak,
            )
        )
    elif few := [c.name for c in classes if c.trained_images < GOOD_IMAGES[0]]:
        those = f"{_listed(few)}, which have the fewest" if len(few) < len(classes) else "every class"
        detail = f"Add images of {those}. {GOOD_IMAGES[0]} to {GOOD_IMAGES[1]} per class work well."
        recommendations.append(Recommendation(code="add_images", detail=detail, class_names=few))
    return recommendations


def _weak(classes: Sequence[ClassReport]) -> list[str]:
    known = [(c.recall, c) for c in classes if c.recall is not None]
    images = sum(c.images for _, c in known)
    if not images:
        return []
    overall = sum(recall * c.images for recall, c in known) / images
    return [c.name for recall, c in sorted(known, key=lambda pair: pair[0]) if recall < overall - WEAK]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def _percent(accuracy: float) -> str:
    return f"{100 * accuracy:.0f}%"


def _points(difference: Interval) -> str:
    """Return `+20 points, 95% CI +8 to +32`."""
    value, low, high = (
        f"{100 * x:+z.0f}".replace("-", "−") for x in (difference.value, difference.low, difference.high)
    )
    return f"{value} points, 95% CI {low} to {high}"


def how_measured(source: str, images: int, total: int, fold_models: int) -> str:
    """Return a sentence about the method of evaluation.

    Args:
        images: number of evaluated images.
        total: number of training images.
        fold_models: their number; 0 without cross-validation.
    """
    if source == "test":
        return f"The model was trained on all {total} images and evaluated on the {images} test images."
    if fold_models == 2:
        return (
            f"The model was trained on all {total} images. Two fold models were each trained on one half "
            f"and evaluated on the other, {images} images in total. The model was trained on twice as many "
            "images and is probably better."
        )
    if fold_models == 1:
        return (
            f"The model was trained on all {total} images. One fold model was trained without {images} of "
            "them and evaluated on these."
        )
    return f"The model was trained on all {total} images, so none was left to evaluate it."
