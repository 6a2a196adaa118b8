"""The report's words: what a person reads first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from core.clip.evaluation.accuracy import Interval

MIN_CLASS_IMAGES = 8
"""Images of a class to which more are worth adding."""
WEAK = 0.15
"""How far the recall of a class lies below that of all before more images of it are advised."""
MAX_NAMES = 5


@dataclass(frozen=True)
class Recommendation:
    code: str
    """`use_it`, `stay_with_stock`, `use_preview`, `add_images`, `check_images` or `measure`."""
    detail: str
    class_names: tuple[str, ...] = ()


class Measured(Protocol):
    """`report.Accuracies`."""

    @property
    def images(self) -> int: ...
    @property
    def stock(self) -> Interval: ...
    @property
    def preview(self) -> Interval: ...
    @property
    def adapted(self) -> Interval | None: ...
    @property
    def adapted_against_stock(self) -> Interval | None: ...
    @property
    def adapted_against_preview(self) -> Interval | None: ...


class ClassMeasured(Protocol):
    """`report.ClassResult`."""

    @property
    def name(self) -> str: ...
    @property
    def trained_images(self) -> int: ...
    @property
    def images(self) -> int: ...
    @property
    def recall(self) -> float | None: ...


def summary(verdict: str, of: Measured, source: str) -> str:
    """The verdict in one sentence."""
    if of.adapted is None or of.adapted_against_stock is None:
        return (
            f"Not measured: there are too few images to keep some out of the training. A classifier "
            f"without training named {_share(of.preview, of.images)} of them rightly, the stock network "
            f"{_share(of.stock, of.images)}."
        )
    which = "test images" if source == "test" else "images that were kept from it for this"
    compared = (
        f"of {of.images} {which} the adapted network names {_share(of.adapted, of.images)} rightly, the "
        f"stock network {_share(of.stock, of.images)} ({_points(of.adapted_against_stock)})"
    )
    start = {
        "better": "Use it",
        "worse": "Don't use it",
        "no_clear_gain": "No clear gain, stay with the stock network (alpha 0)",
    }[verdict]
    return f"{start}: {compared}."


def recommend(
    verdict: str,
    of: Measured,
    brier_gain: Interval | None,
    classes: Sequence[ClassMeasured],
    label_issues: int,
    *,
    halves: bool,
) -> tuple[Recommendation, ...]:
    """What to do, the most important first. `halves`: what was measured knew half of the images."""
    recommendations = []
    if verdict == "better":
        recommendations.append(Recommendation("use_it", _why(of.adapted_against_stock, brier_gain)))
    elif verdict == "not_measured":
        recommendations.append(
            Recommendation(
                "evaluate",
                "Give at least 5 images of each class, or test images, to learn whether the adapted "
                "network is better.",
            )
        )
    else:
        said = "is worse on" if verdict == "worse" else "is not clearly better on"
        recommendations.append(
            Recommendation(
                "stay_with_stock",
                f"The adapted network {said} images that it was not trained on. Ask /classify with alpha "
                "0, and look at names, labels and the number of images.",
            )
        )
        if halves:
            recommendations.append(
                Recommendation(
                    "evaluate",
                    "What was measured knew half of your images, and the model knows all: with test "
                    "images the model itself is measured.",
                )
            )
    against_preview = of.adapted_against_preview
    if verdict == "better" and against_preview is not None and against_preview.high < 0:
        recommendations.append(
            Recommendation(
                "use_preview", f"The preview is better still ({_points(against_preview)} against it)."
            )
        )
    if label_issues:
        images = "1 training image looks" if label_issues == 1 else f"{label_issues} training images look"
        recommendations.append(
            Recommendation(
                "check_images",
                f"{images} like another class than the one that was given. Look at them: a wrong label "
                "costs more than a missing image.",
            )
        )
    weak = _weak(classes)
    if weak:
        recommendations.append(
            Recommendation("add_images", f"Add images of {_listed(weak)}: they are named worst.", tuple(weak))
        )
    elif few := [c.name for c in classes if c.trained_images < MIN_CLASS_IMAGES]:
        recommendations.append(
            Recommendation("add_images", f"More images of {_listed(few)} would help most.", tuple(few))
        )
    return tuple(recommendations)


def _why(gain: Interval | None, brier_gain: Interval | None) -> str:
    if brier_gain is None or (gain is not None and gain.low > 0):
        return "The gain is real: its whole 95 % interval lies above 0."
    return (
        "The gain is real: more images are named rightly, and over all of them the probabilities are "
        "nearer to the truth by more than chance explains."
    )


def _weak(classes: Sequence[ClassMeasured]) -> list[str]:
    known = [(c.recall, c) for c in classes if c.recall is not None]
    images = sum(c.images for _, c in known)
    if not images:
        return []
    of_all = sum(recall * c.images for recall, c in known) / images
    return [c.name for recall, c in sorted(known, key=lambda pair: pair[0]) if recall < of_all - WEAK]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def _share(accuracy: Interval, images: int) -> str:
    return f"{round(accuracy.value * images)}"


def _points(difference: Interval) -> str:
    """`+20 points, between +8 and +32`, as people write numbers."""
    value, low, high = (
        f"{100 * x:+.0f}".replace("-", "−") for x in (difference.value, difference.low, difference.high)
    )
    return f"{value} points, between {low} and {high}"


def how_measured(source: str, images: int, total: int) -> str:
    """What was measured on what, of `total` trained images."""
    if source == "test":
        return f"The model was trained on all {total} images and asked about the {images} test images."
    if source == "holdout":
        return f"The model was trained on {total} images and asked about the {images} that were held out."
    if source == "cross_validation" and images > total / 2:
        return (
            f"The model was trained on all {total} images. Two siblings of it were each trained on one "
            f"half and asked about the other, {images} images in all: with twice as many images as they "
            "had, the model itself is likely better."
        )
    if source == "cross_validation":
        return (
            f"The model was trained on all {total} images. A sibling of it was trained without {images} of "
            "them and asked about these."
        )
    return (
        f"The model was trained on all {total} images and could not be asked about any. Only classifiers "
        "without training were, each about a fifth of the images that it was not given."
    )
