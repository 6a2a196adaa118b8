"""The sentences of the report: summary, recommendations and method."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.clip.config import GOOD_IMAGES
from core.clip.evaluation.accuracy import Accuracies, Interval
from core.clip.evaluation.label_issues import MIN_ACCURACY
from core.clip.evaluation.verdict import Judgement

WEAK = 0.15
"""Gap to the overall recall above which more images of a class are recommended."""
MAX_NAMES = 5
WORDS = {
    "better": "Better",
    "probably_better": "Probably better",
    "no_clear_gain": "No measurable difference",
    "probably_worse": "Probably worse",
    "worse": "Worse",
}
"""Words of each verdict."""


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
class Recommendation:
    """One recommended step."""

    code: str
    """`use_it`, `stay_with_stock`, `add_images`, `check_images` or `evaluate`."""
    detail: str
    class_names: tuple[str, ...] = ()


def summary(judgement: Judgement, measured: Accuracies | None, source: str, trained_images: int) -> str:
    """Return the verdict as one to three words, then the numbers behind it.

    Args:
        trained_images: number of training images.
    """
    if measured is None:
        return "Not evaluated. There are too few images to leave some out of training."
    difference = measured.adapted_against_stock
    trend = "up" if difference.value > 0 else "down" if difference.value < 0 else "unchanged"
    numbers = (
        f"{_percent(measured.adapted)} correct ({_likely(measured.adapted)})"
        f"{_evaluated_on(source, measured.images, trained_images)}, "
        f"{trend} from {_percent(measured.stock)} ({_points(difference)})."
    )
    # The interval counts only images whose prediction changed. The verdict counts all.
    reason = (
        f" It is more certain of the right class on {judgement.more_certain} of {measured.images} images."
        if judgement.verdict == "better" and difference.low <= 0
        else ""
    )
    return f"{WORDS[judgement.verdict]}. {numbers}{reason}"


def _evaluated_on(source: str, images: int, trained_images: int) -> str:
    if source == "test":
        return f" on your {images} test images"
    of = "" if images == trained_images else f"{images} of "
    return f", estimated from {of}your {trained_images} training images"


def recommend(
    judgement: Judgement,
    measured: Accuracies | None,
    classes: Sequence[ClassResult],
    label_issues: int,
    *,
    half_trained: bool,
) -> tuple[Recommendation, ...]:
    """Return the recommended steps, most important first.

    Args:
        half_trained: the fold models were trained on half of the images.
    """
    recommendations = []
    if judgement.verdict == "better":
        p = judgement.p
        assert p is not None
        cases = f"{1000 * p:.0f} of 1,000 cases" if p >= 0.0015 else "1 of 1,000 cases or fewer"
        detail = f"Use the model. Chance explains such a gain in {cases} (signed-rank test)."
        recommendations.append(Recommendation("use_it", detail))
    elif judgement.verdict == "not_evaluated":
        detail = "Send at least 5 images per class, or test images, to evaluate the model."
        recommendations.append(Recommendation("evaluate", detail))
    else:
        if measured is None or measured.adapted_against_stock.value <= 0:
            detail = "Classify with the pre-trained model. Check class names and labels, and add images."
            recommendations.append(Recommendation("stay_with_stock", detail))
        else:
            detail = "The gain is not proven. Send test images to measure it, or training images to raise it."
            recommendations.append(Recommendation("evaluate", detail))
        if half_trained:
            detail = (
                "The evaluated fold models were trained on half of your images, the model on all. Send test "
                "images to evaluate the model itself."
            )
            recommendations.append(Recommendation("evaluate", detail))
    if label_issues:
        images = (
            "1 training image resembles" if label_issues == 1 else f"{label_issues} training images resemble"
        )
        recommendations.append(
            Recommendation(
                "check_images",
                f"{images} another class than the label, which is possibly wrong. Check the labels: a wrong "
                "label costs more than a missing image.",
            )
        )
    weak = _weak(classes)
    if weak:
        recommendations.append(
            Recommendation(
                "add_images", f"Add images of {_listed(weak)}, which have the lowest recall.", tuple(weak)
            )
        )
    elif few := [c.name for c in classes if c.trained_images < GOOD_IMAGES[0]]:
        those = f"{_listed(few)}, which have the fewest" if len(few) < len(classes) else "every class"
        detail = f"Add images of {those}. {GOOD_IMAGES[0]} to {GOOD_IMAGES[1]} per class work well."
        recommendations.append(Recommendation("add_images", detail, tuple(few)))
    return tuple(recommendations)


def too_early(accuracy: float) -> str:
    """Return why no label issues are listed: at this accuracy of the vote, most would be false."""
    return (
        f"Too early to find wrong labels: models without them recognise only {100 * accuracy:.0f}% of the "
        f"training images. Below {100 * MIN_ACCURACY:.0f}%, most suggestions are false. Add images first."
    )


def _weak(classes: Sequence[ClassResult]) -> list[str]:
    known = [(c.recall, c) for c in classes if c.recall is not None]
    images = sum(c.images for _, c in known)
    if not images:
        return []
    overall = sum(recall * c.images for recall, c in known) / images
    return [c.name for recall, c in sorted(known, key=lambda pair: pair[0]) if recall < overall - WEAK]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def _percent(accuracy: Interval) -> str:
    return f"{100 * accuracy.value:.0f}%"


def _likely(accuracy: Interval) -> str:
    return f"likely {100 * accuracy.low:.0f} to {100 * accuracy.high:.0f}"


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
