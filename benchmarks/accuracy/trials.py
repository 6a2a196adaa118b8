"""The papers' settings as lists of trials."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.accuracy.harness import Trial
from benchmarks.data.dataset import DataSet
from benchmarks.data.few_shot import base_classes, restrict

SHOT_COUNTS = (1, 2, 4, 8, 16)


def base_to_new(
    data: DataSet, *, shots: int, splits: Sequence[int], seeds: Sequence[int], count: int | None = None
) -> list[Trial]:
    """Return the trials of BNG: train on half of the classes or on `count`, test on these and on the others.

    Split 0 is the papers' split. The same runs give *mixed*, with all classes as candidates.
    """
    classes = len(data.class_names)
    return [
        Trial(data, tuple(base_classes(split, classes, count=count)), shots, split, seed, (data,))
        for split in splits
        for seed in seeds
    ]


def few_shot(data: DataSet, *, shots: Sequence[int], seeds: Sequence[int]) -> list[Trial]:
    """Return the trials of FSL: train and test on all classes."""
    everything = tuple(range(len(data.class_names)))
    return [Trial(data, everything, count, 0, seed, (data,)) for count in shots for seed in seeds]


def domain_generalisation(
    source: DataSet, variants: Sequence[DataSet], *, shots: int, seeds: Sequence[int]
) -> list[Trial]:
    """Return the trials of DG: train on all classes of one data set, test on it and on others with these."""
    everything = tuple(range(len(source.class_names)))
    return [Trial(source, everything, shots, 0, seed, (source, *variants)) for seed in seeds]


def cross_domain(
    data: DataSet, target: DataSet, *, shots: int, splits: Sequence[int], seeds: Sequence[int]
) -> list[Trial]:
    """Return the trials of CDG: train on base classes, test on another data set.

    The tests cover all its classes and, as in the paper, its base and its new half.
    """
    classes = len(target.class_names)
    base = base_classes(0, classes)
    new = [label for label in range(classes) if label not in base]
    tests = (
        target,
        replace(restrict(target, base), name=f"{target.name} base"),
        replace(restrict(target, new), name=f"{target.name} new"),
    )
    trained = len(data.class_names)
    return [
        Trial(data, tuple(base_classes(split, trained)), shots, split, seed, tests)
        for split in splits
        for seed in seeds
    ]


def fewer_tests(data: DataSet, per_class: int | None) -> DataSet:
    """Keep only the first `per_class` test images of each class, or all."""
    if per_class is None:
        return data
    seen: Counter[int] = Counter()
    kept = []
    for example in data.test:
        seen[example.label] += 1
        if seen[example.label] <= per_class:
            kept.append(example)
    return replace(data, test=tuple(kept))
