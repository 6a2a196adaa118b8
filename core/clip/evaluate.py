"""Is the adapted network better? Accuracies on trained, new and all names, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

BOOTSTRAP_SAMPLES = 10_000
Floats: TypeAlias = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Interval:
    """An accuracy, or a difference of two, with its 95 % interval."""

    value: float
    low: float
    high: float


def harmonic_mean(base: float, new: float) -> float:
    """HM = 2BN / (B + N), the headline of the base-to-new setting."""
    return 2 * base * new / (base + new) if base + new else 0.0


def paired_bootstrap(
    right: NDArray[np.bool_], baseline_right: NDArray[np.bool_], *, seed: int = 0
) -> Interval:
    """The difference in accuracy of two classifiers on the *same* N pictures, resampled by picture.

    Args:
        right, baseline_right: [N], whether each picture was answered rightly.

    Returns:
        The difference `right - baseline_right` and the 2.5 and 97.5 percentiles of its resamples.
    """
    differences = right.astype(np.int64) - baseline_right.astype(np.int64)
    # A resample of N values out of {-1, 0, 1} is a multinomial draw of their three counts.
    n = len(differences)
    shares = np.array([(differences == value).sum() for value in (-1, 0, 1)]) / n
    counts = np.random.default_rng(seed).multinomial(n, shares, size=BOOTSTRAP_SAMPLES)
    low, high = np.percentile((counts[:, 2] - counts[:, 0]) / n, [2.5, 97.5])
    return Interval(float(differences.mean()), float(low), float(high))


def accuracy_interval(
    right: NDArray[np.bool_], *, learned_from: int | None = None, seed: int = 0
) -> Interval:
    """An accuracy with its 95 % interval, also where the pictures are few or all are right.

    Jeffreys' interval (L. Brown, T. Cai and A. DasGupta, Statistical Science 2001): the percentiles of
    Beta(k + 1/2, n - k + 1/2) for k of n right. A bootstrap of 10 right answers out of 10 is sure of 100 %.

    In a cross-validation the pictures that are asked about are also those that others learn from, so they
    say less than as many fresh ones: by the correction of C. Nadeau and Y. Bengio (Machine Learning 2003) the
    variance is 1 + n / m times as large where each network learned from m of the pictures. Here n counts as
    n / (1 + n / m).

    Args:
        right: [n], answers of all networks together.
        learned_from: m; None where the pictures are apart from those that were trained on.
    """
    n, k = len(right), int(right.sum())
    share = 1.0 if learned_from is None else learned_from / (learned_from + n)
    draws = np.random.default_rng(seed).beta(share * k + 0.5, share * (n - k) + 0.5, size=BOOTSTRAP_SAMPLES)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(k / n, 0.0 if k == 0 else float(low), 1.0 if k == n else float(high))


def answers(similarities: Floats, truth: NDArray[np.int64], candidates: Sequence[int]) -> NDArray[np.bool_]:
    """Whether the most similar of the candidate classes is the true one.

    Args:
        similarities: [N, C], cosines of each picture with each class.
        truth: [N], class indices.
        candidates: the classes that may be answered.
    """
    columns = np.asarray(candidates)
    result: NDArray[np.bool_] = columns[similarities[:, columns].argmax(axis=1)] == truth
    return result


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

    def to_dict(self) -> dict[str, Any]:
        return {"stock": self.stock, "adapted": self.adapted}


@dataclass(frozen=True)
class BaseToNew:
    """The comparisons of one test set. `trained` and `new` allow only the names of that half;
    the others allow all names, which is how people use a model. None: no such pictures."""

    trained: Comparison | None
    new: Comparison | None
    mixed_trained: Comparison | None
    mixed_new: Comparison | None
    mixed: Comparison
    brier_gain: Interval | None = None
    """By how much the adapted network's probabilities are nearer to the truth (`core.clip.brier`)."""


def compare(
    stock: Floats,
    adapted: Floats,
    truth: NDArray[np.int64],
    trained_classes: int,
) -> BaseToNew:
    """Args: what both networks rank by [N, C], truth [N]; classes below `trained_classes` are trained."""
    classes = stock.shape[1]
    is_trained = truth < trained_classes

    def comparison(rows: NDArray[np.bool_], candidates: range) -> Comparison | None:
        if not rows.any():
            return None
        return Comparison(
            answers(stock[rows], truth[rows], candidates), answers(adapted[rows], truth[rows], candidates)
        )

    everything = comparison(np.ones(len(truth), dtype=bool), range(classes))
    assert everything is not None  # callers measure on at least one picture
    return BaseToNew(
        trained=comparison(is_trained, range(trained_classes)),
        new=comparison(~is_trained, range(trained_classes, classes)),
        mixed_trained=comparison(is_trained, range(classes)),
        mixed_new=comparison(~is_trained, range(classes)),
        mixed=everything,
    )


def verdict(difference: Interval, brier_gain: Interval | None = None) -> str:
    """`better` or `worse` where the whole interval of the difference in accuracy lies on one side of 0, or
    where it is on that side at all and the whole interval of `brier_gain` (see `core.clip.brier`) is."""
    if difference.low > 0 or (brier_gain is not None and brier_gain.low > 0 < difference.value):
        return "better"
    if difference.high < 0 or (brier_gain is not None and brier_gain.high < 0 > difference.value):
        return "worse"
    return "no_clear_gain"


def job_metrics(
    result: BaseToNew | None, *, source: str, images: int, trained_images: int
) -> Mapping[str, Any]:
    """The `metrics` of a job and its model. The verdict is on all pictures and all names."""
    if result is None:
        return {
            "measured_on": {"source": "none", "images": 0, "trained_images": trained_images},
            "trained_names": None,
            "new_names": None,
            "all_names": None,
            "verdict": "not_measured",
        }

    def with_difference(comparison: Comparison | None) -> dict[str, Any] | None:
        if comparison is None:
            return None
        return {**comparison.to_dict(), "difference": vars(comparison.difference())}

    return {
        "measured_on": {"source": source, "images": images, "trained_images": trained_images},
        "trained_names": with_difference(result.trained),
        "new_names": with_difference(result.new),
        "all_names": {
            "trained": with_difference(result.mixed_trained),
            "new": with_difference(result.mixed_new),
            "all": with_difference(result.mixed),
        },
        "verdict": verdict(result.mixed.difference(), result.brier_gain),
    }
