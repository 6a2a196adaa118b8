"""Stock against adapted on the held-out pictures, from what /classify answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.clip.evaluation.accuracy import Interval, paired_bootstrap, verdict
from demo.pictures import Picture, Pictures

Change = Literal["gained", "lost", "still_wrong"]


@dataclass(frozen=True)
class Answers:
    """One model's answers to N pictures with C names."""

    scores: NDArray[np.float32]
    """[N, C], what the service ranks by: similarities less the offset of each name."""
    probabilities: NDArray[np.float32]
    """[N, C], over all C names."""


@dataclass(frozen=True)
class Comparison:
    """Stock and adapted on the same pictures with the same candidates."""

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
    """`trained` and `new` allow only the names of that half, the others all names. None: no such pictures."""

    trained: Comparison | None
    new: Comparison | None
    mixed_trained: Comparison | None
    mixed_new: Comparison | None
    mixed: Comparison


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
    trained, every = len(pictures.trained_names), len(pictures.names)

    def right(scores: NDArray[np.float32], first: int, end: int) -> NDArray[np.bool_]:
        return np.asarray(first + scores[:, first:end].argmax(axis=1) == truth)

    def of(rows: NDArray[np.bool_], first: int, end: int) -> Comparison | None:
        if not rows.any():
            return None
        return Comparison(right(stock.scores, first, end)[rows], right(adapted.scores, first, end)[rows])

    base = truth < trained
    return Result(
        pictures,
        BaseToNew(
            trained=of(base, 0, trained),
            new=of(~base, trained, every),
            mixed_trained=of(base, 0, every),
            mixed_new=of(~base, 0, every),
            mixed=Comparison(right(stock.scores, 0, every), right(adapted.scores, 0, every)),
        ),
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
