"""Comparison of the stock and the adapted model on held-out images, from the responses of /classify."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.clip.evaluation.accuracy import Interval, paired_bootstrap, verdict
from demo.images import ImageSplit, LabelledImage

Change = Literal["gained", "lost", "still_wrong"]


@dataclass(frozen=True)
class ModelScores:
    """Scores of one model for N images and C classes."""

    scores: NDArray[np.float32]
    """[N, C], the ranking criterion of the service: similarity minus the offset of the class."""
    probabilities: NDArray[np.float32]
    """[N, C], softmax over all C classes."""


@dataclass(frozen=True)
class Comparison:
    """Correctness of the stock and the adapted model, on the same images with the same candidates."""

    stock_correct: NDArray[np.bool_]
    adapted_correct: NDArray[np.bool_]

    @property
    def stock(self) -> float:
        return float(self.stock_correct.mean())

    @property
    def adapted(self) -> float:
        return float(self.adapted_correct.mean())

    def difference(self) -> Interval:
        return paired_bootstrap(self.adapted_correct, self.stock_correct)


@dataclass(frozen=True)
class BaseToNew:
    """Comparisons per kind of class; None without such images.

    The candidates of `trained` and `new` are the classes of that kind, those of the others are all classes.
    """

    trained: Comparison | None
    new: Comparison | None
    mixed_trained: Comparison | None
    mixed_new: Comparison | None
    mixed: Comparison


@dataclass(frozen=True)
class Changed:
    """An image whose prediction differs between the models, with all classes as candidates."""

    image: LabelledImage
    stock_name: str
    stock_probability: float
    adapted_name: str
    adapted_probability: float

    @property
    def change(self) -> Change:
        if self.adapted_name == self.image.class_name:
            return "gained"
        return "lost" if self.stock_name == self.image.class_name else "still_wrong"


@dataclass(frozen=True)
class Result:
    """Result of one training run of the demo."""

    images: ImageSplit
    comparison: BaseToNew
    changed: tuple[Changed, ...]
    metrics: Mapping[str, Any]
    """Metrics of the job."""

    @property
    def main_difference(self) -> Interval:
        """Difference over all images, with all classes as candidates."""
        return self.comparison.mixed.difference()

    @property
    def verdict(self) -> str:
        return verdict(self.main_difference)

    def unchanged(self) -> tuple[int, int]:
        """Return the numbers of unchanged predictions, correct and wrong."""
        correct = int((self.comparison.mixed.stock_correct & self.comparison.mixed.adapted_correct).sum())
        return correct, len(self.images.test) - len(self.changed) - correct


def result_of(
    images: ImageSplit, stock: ModelScores, adapted: ModelScores, metrics: Mapping[str, Any]
) -> Result:
    """Compare two models on the test images."""
    truth = np.array([images.names.index(image.class_name) for image in images.test])
    trained, every = len(images.trained_classes), len(images.names)

    def is_correct(scores: NDArray[np.float32], first: int, end: int) -> NDArray[np.bool_]:
        return np.asarray(first + scores[:, first:end].argmax(axis=1) == truth)

    def compare(rows: NDArray[np.bool_], first: int, end: int) -> Comparison | None:
        if not rows.any():
            return None
        return Comparison(
            is_correct(stock.scores, first, end)[rows], is_correct(adapted.scores, first, end)[rows]
        )

    base = truth < trained
    return Result(
        images,
        BaseToNew(
            trained=compare(base, 0, trained),
            new=compare(~base, trained, every),
            mixed_trained=compare(base, 0, every),
            mixed_new=compare(~base, 0, every),
            mixed=Comparison(is_correct(stock.scores, 0, every), is_correct(adapted.scores, 0, every)),
        ),
        tuple(_changed(images.test, images.names, stock, adapted)),
        metrics,
    )


def _changed(
    tests: Sequence[LabelledImage], names: Sequence[str], stock: ModelScores, adapted: ModelScores
) -> list[Changed]:
    before, now = stock.scores.argmax(axis=1), adapted.scores.argmax(axis=1)
    return [
        Changed(
            image,
            names[before[i]],
            float(stock.probabilities[i, before[i]]),
            names[now[i]],
            float(adapted.probabilities[i, now[i]]),
        )
        for i, image in enumerate(tests)
        if before[i] != now[i]
    ]


def disagreements(result: Result) -> list[str]:
    """Return the counts of correct predictions that differ from the metrics of the job.

    The verdicts may differ nevertheless, since that of the job also takes the probabilities into account.
    """
    all_classes = result.metrics.get("all_classes") or {}
    ours_and_theirs: list[tuple[str, Comparison | None, Any]] = [
        ("trained classes only", result.comparison.trained, result.metrics.get("trained_classes")),
        ("new classes only", result.comparison.new, result.metrics.get("new_classes")),
        ("trained, all classes", result.comparison.mixed_trained, all_classes.get("trained")),
        ("new, all classes", result.comparison.mixed_new, all_classes.get("new")),
    ]
    differences = []
    for label, ours, theirs in ours_and_theirs:
        if (ours is None) != (theirs is None):
            differences.append(f"{label}: missing on one side")
        elif ours is not None:
            for model, correct in (("stock", ours.stock_correct), ("adapted", ours.adapted_correct)):
                counted, reported = int(correct.sum()), round(theirs[model] * len(correct))
                if counted != reported:
                    differences.append(f"{label}, {model}: {counted} correct here, {reported} in the job")
    return differences
