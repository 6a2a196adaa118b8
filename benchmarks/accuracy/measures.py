"""Accuracies of many runs, and differences between methods with paired intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.scores import Answers

RESAMPLES = 2_000
MEASURES = ("B", "N", "HM", "mixed B", "mixed N", "mixed HM", "all", "OwAUC")
"""B, N: accuracy on trained (base) and new classes among the names of that kind; mixed: among all
names; all: over all images among all names."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Of two means over the same runs, with its 95 % interval over the images."""

    value: float
    low: float
    high: float


def harmonic_mean(x: Floats, y: Floats) -> Floats:
    total = x + y
    mean: Floats = np.divide(2 * x * y, total, out=np.zeros_like(total), where=~(total <= 0))
    return mean


def measure(run: Answers, weights: NDArray[np.int64], gamma: float = 0.0) -> dict[str, Floats]:
    """Every measure but OwAUC, [R] each.

    Args:
        weights: [R, N], how often each image counts: all ones, or bootstrap resamples.
        gamma: taken off the scores of the trained names among all names.
    """
    half, mixed, of_trained = run.right_among_its_kind(), run.right_among_all(gamma), run.of_trained

    def accuracy(right: NDArray[np.bool_], among: NDArray[np.bool_]) -> Floats:
        count = (weights @ among).astype(np.float64)
        share: Floats = np.divide(weights @ (right & among), count, out=np.zeros_like(count), where=count > 0)
        return share

    b, n = accuracy(half, of_trained), accuracy(half, ~of_trained)
    if (run.best_new >= 0).all() and not np.isfinite(run.new_score).any():
        n = np.full_like(n, np.nan)  # a method that can't answer new names at all
    mixed_b, mixed_n = accuracy(mixed, of_trained), accuracy(mixed, ~of_trained)
    everything = np.ones_like(of_trained)
    return {
        "B": b,
        "N": n,
        "HM": harmonic_mean(b, n),
        "mixed B": mixed_b,
        "mixed N": mixed_n,
        "mixed HM": harmonic_mean(mixed_b, mixed_n),
        "all": accuracy(mixed, everything),
    }


def means(runs: Sequence[Answers]) -> dict[str, float]:
    """Every measure, the mean over the runs."""
    rows = [measure(run, np.ones((1, len(run.truth)), dtype=np.int64)) for run in runs]
    table = {name: float(np.mean([row[name] for row in rows])) for name in MEASURES[:-1]}
    openworld = [run.openworld_auc() for run in runs if 0 < run.of_trained.sum() < len(run.truth)]
    return {**table, "OwAUC": float(np.mean(openworld))} if openworld else table


def resampled(runs: Sequence[Answers]) -> dict[str, Floats]:
    """Every measure's mean over the runs, [R]: once for every bootstrap resample of the images. The
    runs of one data set share their test images, so a resample counts an image alike in all of
    them, and the same resamples are drawn for every method: differences are paired."""
    rows = []
    for run in runs:
        n = len(run.truth)
        weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
        rows.append(measure(run, weights))
    return {name: np.mean([row[name] for row in rows], axis=0) for name in MEASURES[:-1]}


def differences(
    ours: Mapping[str, Floats], theirs: Mapping[str, Floats], values: Mapping[str, float]
) -> dict[str, Difference]:
    """Intervals of ours − theirs.

    Args:
        ours, theirs: from `resampled`, or means of that over several data sets.
        values: the differences themselves, without resampling.
    """
    found = {}
    for name in ours:
        low, high = np.percentile(ours[name] - theirs[name], [2.5, 97.5])
        found[name] = Difference(values[name], float(low), float(high))
    return found
