"""Accuracy over runs, and differences between methods with paired bootstrap intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.scores import BestScores

RESAMPLES = 2_000
MEASURES = ("B", "N", "HM", "mixed B", "mixed N", "mixed HM", "all", "OwAUC")
"""Measures. B and N: accuracy on trained (base) and new classes, with only these as candidates. mixed: all
classes are candidates. all: over all images, with all classes as candidates."""
OPEN_WORLD = ("AUROC", "Opt-a", "Opt-g")
"""Further measures of `BestScores.open_world`."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """A difference of two means over the same runs, with its 95% interval over splits, seeds and images."""

    value: float
    low: float
    high: float


def harmonic_mean(x: Floats, y: Floats) -> Floats:
    total = x + y
    mean: Floats = np.divide(2 * x * y, total, out=np.zeros_like(total), where=~(total <= 0))
    return mean


def measure(run: BestScores, weights: NDArray[np.int64] | Floats) -> dict[str, Floats]:
    """Return each measure except OwAUC, as [R].

    Args:
        weights: [R, N], count of each image: all ones, or bootstrap resamples.
    """
    half, mixed, is_trained = run.correct_within_kind(), run.correct_among_all(), run.is_trained
    rows = (half & is_trained, half & ~is_trained, mixed & is_trained, mixed & ~is_trained, mixed)
    kinds = (is_trained, ~is_trained, np.ones_like(is_trained))
    # One product, because the weights are large.
    sums = (weights @ np.stack([*rows, *kinds], axis=1).astype(np.float64)).T  # [8, R]
    trained, new, everything = sums[5:]

    def share(correct: Floats, count: Floats) -> Floats:
        value: Floats = np.divide(correct, count, out=np.zeros_like(count), where=count > 0)
        return value

    b, n = share(sums[0], trained), share(sums[1], new)
    if (run.best_new >= 0).all() and not np.isfinite(run.new_score).any():
        n = np.full_like(n, np.nan)  # the method cannot predict new classes
    mixed_b, mixed_n = share(sums[2], trained), share(sums[3], new)
    return {
        "B": b,
        "N": n,
        "HM": harmonic_mean(b, n),
        "mixed B": mixed_b,
        "mixed N": mixed_n,
        "mixed HM": harmonic_mean(mixed_b, mixed_n),
        "all": share(sums[4], everything),
    }


def means(runs: Sequence[BestScores]) -> dict[str, float]:
    """Return each measure as the mean over the runs."""
    rows = [measure(run, np.ones((1, len(run.truth)), dtype=np.int64)) for run in runs]
    table = {name: float(np.mean([row[name] for row in rows])) for name in MEASURES[:-1]}
    openworld = [run.open_world() for run in runs if 0 < run.is_trained.sum() < len(run.truth)]
    return table | {
        name: float(np.mean([of_run[name] for of_run in openworld]))
        for name in (*OPEN_WORLD, "OwAUC")
        if openworld
    }


def resampled(runs: Sequence[BestScores], splits: Sequence[int], seed: int) -> dict[str, Floats]:
    """Return the mean of each measure over the runs of one data set, [R], for each bootstrap resample.

    Images are drawn once for all runs, splits with replacement, and seeds within them. The draws depend on
    the sizes and `seed` alone, so differences of two methods are paired.

    Args:
        splits: class split of each run.
    """
    rows = [measure(run, resampled_images(len(run.truth), seed)) for run in runs]
    return {
        name: mean_of_resampled_runs(np.array([row[name] for row in rows]), splits, seed)
        for name in MEASURES[:-1]
    }


@lru_cache(maxsize=8)
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
    weights = _run_weights(tuple(splits), seed, values.shape[1])
    mean: Floats = np.where(weights > 0, weights * values, 0.0).sum(axis=0)
    return mean


@lru_cache(maxsize=64)
def _run_weights(splits: tuple[int, ...], seed: int, resamples: int) -> Floats:
    """Return the share [runs, R] of each run in each resample."""
    generator = np.random.default_rng([seed, len(splits), 1])
    of_split = [np.flatnonzero(np.asarray(splits) == split) for split in dict.fromkeys(splits)]
    sizes = np.array([len(runs) for runs in of_split])
    padded = np.array([np.resize(runs, sizes.max()) for runs in of_split])  # [splits, seeds]
    drawn = generator.integers(len(of_split), size=(len(of_split), resamples))
    weights = np.zeros((len(splits), resamples))
    for row in drawn:
        for place in range(sizes.max()):
            run = padded[row, generator.integers(sizes[row])]
            share = np.where(place < sizes[row], 1 / sizes[row], 0.0) / len(of_split)
            np.add.at(weights, (run, np.arange(resamples)), share)
    return weights


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
