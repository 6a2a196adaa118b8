"""Accuracy over runs, and differences between methods with paired bootstrap intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.scores import BestScores

RESAMPLES = 2_000
MEASURES = ("B", "N", "HM", "mixed B", "mixed N", "mixed HM", "all", "OwAUC")
"""Measures. B and N: accuracy on trained (base) and new classes, with only these as candidates. mixed: all
classes are candidates. all: over all images, with all classes as candidates."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """A difference of two means over the same runs, with its 95% interval over the images."""

    value: float
    low: float
    high: float


def harmonic_mean(x: Floats, y: Floats) -> Floats:
    total = x + y
    mean: Floats = np.divide(2 * x * y, total, out=np.zeros_like(total), where=~(total <= 0))
    return mean


def measure(run: BestScores, weights: NDArray[np.int64], gamma: float = 0.0) -> dict[str, Floats]:
    """Return each measure except OwAUC, as [R].

    Args:
        weights: [R, N], count of each image: all ones, or bootstrap resamples.
        gamma: subtracted from the scores of the trained classes if all classes are candidates.
    """
    half, mixed, is_trained = run.correct_within_kind(), run.correct_among_all(gamma), run.is_trained

    def accuracy(correct: NDArray[np.bool_], among: NDArray[np.bool_]) -> Floats:
        count = (weights @ among).astype(np.float64)
        share: Floats = np.divide(
            weights @ (correct & among), count, out=np.zeros_like(count), where=count > 0
        )
        return share

    b, n = accuracy(half, is_trained), accuracy(half, ~is_trained)
    if (run.best_new >= 0).all() and not np.isfinite(run.new_score).any():
        n = np.full_like(n, np.nan)  # the method cannot predict new classes
    mixed_b, mixed_n = accuracy(mixed, is_trained), accuracy(mixed, ~is_trained)
    everything = np.ones_like(is_trained)
    return {
        "B": b,
        "N": n,
        "HM": harmonic_mean(b, n),
        "mixed B": mixed_b,
        "mixed N": mixed_n,
        "mixed HM": harmonic_mean(mixed_b, mixed_n),
        "all": accuracy(mixed, everything),
    }


def means(runs: Sequence[BestScores]) -> dict[str, float]:
    """Return each measure as the mean over the runs."""
    rows = [measure(run, np.ones((1, len(run.truth)), dtype=np.int64)) for run in runs]
    table = {name: float(np.mean([row[name] for row in rows])) for name in MEASURES[:-1]}
    openworld = [run.openworld_auc() for run in runs if 0 < run.is_trained.sum() < len(run.truth)]
    return {**table, "OwAUC": float(np.mean(openworld))} if openworld else table


def resampled(runs: Sequence[BestScores]) -> dict[str, Floats]:
    """Return the mean of each measure over the runs, [R], for each bootstrap resample of the images.

    The runs of one data set share their test images, and all methods use the same resamples. Differences
    are therefore paired.
    """
    rows = []
    for run in runs:
        n = len(run.truth)
        weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
        rows.append(measure(run, weights))
    return {name: np.mean([row[name] for row in rows], axis=0) for name in MEASURES[:-1]}


def resampled_images(images: int, seed: int) -> Floats:
    """Return weights [R, N]: the images of a data set drawn with replacement, once for all its runs."""
    counts = np.random.default_rng([seed, images]).multinomial(
        images, np.full(images, 1 / images), size=RESAMPLES
    )
    return counts.astype(np.float64)


def mean_of_resampled_runs(values: Floats, splits: Sequence[int], seed: int) -> Floats:
    """Return the mean over the runs for each resample, [R]: splits drawn with replacement, seeds in them.

    An interval over images alone holds for these splits only.

    Args:
        values: [runs, R], of resampled images.
        splits: class split of each run.
    """
    generator = np.random.default_rng([seed, len(splits), 1])
    of_split = [np.flatnonzero(np.asarray(splits) == split) for split in dict.fromkeys(splits)]
    resamples = np.arange(values.shape[1])
    drawn = generator.integers(len(of_split), size=(len(of_split), len(resamples)))
    total = np.zeros(len(resamples))
    for row in drawn:
        sizes = np.array([len(runs) for runs in of_split])[row]
        mean = np.zeros(len(resamples))
        for place in range(max(len(runs) for runs in of_split)):
            pick = generator.integers(sizes)
            run = np.array([of_split[k][i] for k, i in zip(row, pick, strict=True)])
            mean += np.where(place < sizes, values[run, resamples], 0.0)
        total += mean / sizes
    average: Floats = total / len(of_split)
    return average


def differences(
    ours: Mapping[str, Floats], theirs: Mapping[str, Floats], values: Mapping[str, float]
) -> dict[str, Difference]:
    """Return the difference ours − theirs of each measure, with its interval.

    Args:
        ours, theirs: results of `resampled`, or their means over several data sets.
        values: the differences without resampling.
    """
    intervals = {}
    for name in ours:
        low, high = np.percentile(ours[name] - theirs[name], [2.5, 97.5])
        intervals[name] = Difference(values[name], float(low), float(high))
    return intervals
