"""Stock against adapted on the held-out images, from what /classify answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.clip.evaluation.accuracy import Interval, paired_bootstrap, verdict
from demo.images import ImageSplit, LabelledImage

Change = Literal["gained", "lost", "still_wrong"]


@dataclass(frozen=True)
class Answers:
    """One model's answers to N images with C names."""

    scores: NDArray[np.float32]
    """[N, C], what the service ranks by: similarities less the offset of each name."""
    probabilities: NDArray[np.float32]
    """[N, C], over all C names."""


@dataclass(frozen=True)
class Comparison:
    """Stock and adapted on the same images with the same candidates."""

    stock_right: NDArray[np.bool_]
    adapted_right: NDArray[np.bool_]

    @property
    def stock(self) -> float:
        return float(self.stock_right.mean())

    @property
    def adapted(self) -> float:
        return float(self.adapted_right.mean())

    def difference(self) -> Interval:
        return paired_bootstrap(self.adapted_right, self.stock_right)


@dataclass(frozen=True)
class BaseToNew:
    """`trained` and `new` allow only the names of that half, the others all names. None: no such images."""

    trained: Comparison | None
    new: Comparison | None
    mixed_trained: Comparison | None
    mixed_new: Comparison | None
    mixed: Comparison


@dataclass(frozen=True)
class Changed:
    """An image whose answer, all names allowed, is another one than before."""

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
    images: ImageSplit
    comparison: BaseToNew
    changed: tuple[Changed, ...]
    metrics: Mapping[str, Any]
    """The job's own measurement."""

    @property
    def headline(self) -> Interval:
        """The difference over all images with all names allowed."""
        return self.comparison.mixed.difference()

    @property
    def verdict(self) -> str:
        return verdict(self.headline)

    def unchanged(self) -> tuple[int, int]:
        """How many images kept their answer: the right ones, the wrong ones."""
        right = int((self.comparison.mixed.stock_right & self.comparison.mixed.adapted_right).sum())
        return right, len(self.images.test) - len(self.changed) - right


def result_of(images: ImageSplit, stock: Answers, adapted: Answers, metrics: Mapping[str, Any]) -> Result:
    truth = np.array([images.names.index(image.class_name) for image in images.test])
    trained, every = len(images.trained_classes), len(images.names)

    def right(scores: NDArray[np.float32], first: int, end: int) -> NDArray[np.bool_]:
        return np.asarray(first + scores[:, first:end].argmax(axis=1) == truth)

    def of(rows: NDArray[np.bool_], first: int, end: int) -> Comparison | None:
        if not rows.any():
            return None
        return Comparison(right(stock.scores, first, end)[rows], right(adapted.scores, first, end)[rows])

    base = truth < trained
    return Result(
        images,
        BaseToNew(
            trained=of(base, 0, trained),
            new=of(~base, trained, every),
            mixed_trained=of(base, 0, every),
            mixed_new=of(~base, 0, every),
            mixed=Comparison(right(stock.scores, 0, every), right(adapted.scores, 0, every)),
        ),
        tuple(_changed(images.test, images.names, stock, adapted)),
        metrics,
    )


def _changed(
    tests: Sequence[LabelledImage], names: Sequence[str], stock: Answers, adapted: Answers
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
    """Where the job's own measurement counts another number of right answers than we did. Its verdict may be
    another all the same: it also looks at the probabilities."""
    all_classes = result.metrics.get("all_classes") or {}
    ours_and_theirs: list[tuple[str, Comparison | None, Any]] = [
        ("trained names only", result.comparison.trained, result.metrics.get("trained_classes")),
        ("new names only", result.comparison.new, result.metrics.get("new_classes")),
        ("trained, all names", result.comparison.mixed_trained, all_classes.get("trained")),
        ("new, all names", result.comparison.mixed_new, all_classes.get("new")),
    ]
    found = []
    for what, ours, theirs in ours_and_theirs:
        if (ours is None) != (theirs is None):
            found.append(f"{what}: only one of the two measured it")
        elif ours is not None:
            for network, right in (("stock", ours.stock_right), ("adapted", ours.adapted_right)):
                counted, told = int(right.sum()), round(theirs[network] * len(right))
                if counted != told:
                    found.append(f"{what}, {network}: {counted} right here, {told} in the job")
    return found
