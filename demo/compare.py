"""Stock against adapted on the held-out pictures, from what /classify answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core.clip.evaluate import BaseToNew, Comparison, Interval, compare, verdict
from demo.calls import Answers
from demo.pictures import Picture, Pictures

Change = Literal["gained", "lost", "still_wrong"]


@dataclass(frozen=True)
class Changed:
    """A picture whose answer, all names allowed, is another one than before."""

    picture: Picture
    stock_name: str
    stock_probability: float
    adapted_name: str
    adapted_probability: float

    @property
    def change(self) -> Change:
        if self.adapted_name == self.picture.class_name:
            return "gained"
        return "lost" if self.stock_name == self.picture.class_name else "still_wrong"


@dataclass(frozen=True)
class Result:
    pictures: Pictures
    comparison: BaseToNew
    changed: tuple[Changed, ...]
    metrics: Mapping[str, Any]
    """The job's own measurement."""

    @property
    def headline(self) -> Interval:
        """The difference over all pictures with all names allowed."""
        return self.comparison.mixed.difference()

    @property
    def verdict(self) -> str:
        return verdict(self.headline)

    def unchanged(self) -> tuple[int, int]:
        """How many pictures kept their answer: the right ones, the wrong ones."""
        right = int((self.comparison.mixed.stock_right & self.comparison.mixed.adapted_right).sum())
        return right, len(self.pictures.test) - len(self.changed) - right


def result_of(pictures: Pictures, stock: Answers, adapted: Answers, metrics: Mapping[str, Any]) -> Result:
    truth = np.array([pictures.names.index(picture.class_name) for picture in pictures.test])
    trained = len(pictures.trained_names)
    return Result(
        pictures,
        compare(stock.scores, adapted.scores, truth, trained),
        tuple(_changed(pictures.test, pictures.names, stock, adapted)),
        metrics,
    )


def _changed(
    tests: Sequence[Picture], names: Sequence[str], stock: Answers, adapted: Answers
) -> list[Changed]:
    before, now = stock.scores.argmax(axis=1), adapted.scores.argmax(axis=1)
    return [
        Changed(
            picture,
            names[before[i]],
            float(stock.probabilities[i, before[i]]),
            names[now[i]],
            float(adapted.probabilities[i, now[i]]),
        )
        for i, picture in enumerate(tests)
        if before[i] != now[i]
    ]


def disagreements(result: Result) -> list[str]:
    """Where the job's own measurement counts another number of right answers than we did. Its verdict may be
    another all the same: it also looks at the probabilities."""
    all_names = result.metrics.get("all_names") or {}
    ours_and_theirs: list[tuple[str, Comparison | None, Any]] = [
        ("trained names only", result.comparison.trained, result.metrics.get("trained_names")),
        ("new names only", result.comparison.new, result.metrics.get("new_names")),
        ("trained, all names", result.comparison.mixed_trained, all_names.get("trained")),
        ("new, all names", result.comparison.mixed_new, all_names.get("new")),
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
