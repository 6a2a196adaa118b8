from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from clipcite.types.report import Interval
from core.clip.evaluation.accuracy import accuracy_interval, difference_interval


def slow_bootstrap(right: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> Interval:
    """Resample the images with replacement and count the hits."""
    generator = np.random.default_rng(1)
    n = len(right)
    differences = []
    for _ in range(10_000):
        drawn = generator.integers(0, n, n)
        differences.append(right[drawn].mean() - baseline[drawn].mean())
    low, high = np.percentile(differences, [2.5, 97.5])
    return Interval(value=right.mean() - baseline.mean(), low=low, high=high)


@pytest.mark.parametrize("discordant", [0.05, 0.3, 0.8])
def test_the_interval_of_many_images_is_that_of_a_bootstrap(discordant: float) -> None:
    n = 400
    generator = np.random.default_rng(0)
    baseline = generator.random(n) < 0.6
    right = np.where(generator.random(n) < discordant, generator.random(n) < 0.7, baseline)
    found, slow = difference_interval(right, baseline), slow_bootstrap(right, baseline)
    assert found.value == pytest.approx(slow.value)
    # In steps of 1/n: one step for the image more, two for the noise of 10,000 draws.
    assert slow.low - 3.1 / n < found.low < slow.low + 1.1 / n
    assert slow.high - 1.1 / n < found.high < slow.high + 3.1 / n
    assert found.low < found.value < found.high


def test_the_interval_pairs() -> None:
    """Both models agree on all images but a few: the difference is certain although each accuracy is not."""
    baseline = np.arange(100) % 2 == 0
    better = baseline.copy()
    better[1:20:2] = True
    interval = difference_interval(better, baseline)
    assert interval.value == pytest.approx(0.1)
    assert 0.03 < interval.low < 0.06
    assert difference_interval(baseline, better).high == pytest.approx(-interval.low, abs=0.011)


@pytest.mark.parametrize("images", [1, 2, 5])
def test_equal_differences_have_a_wide_interval(images: int) -> None:
    """A bootstrap of one image that is gained would be sure of 100 points."""
    none, every = np.zeros(images, dtype=bool), np.ones(images, dtype=bool)
    gained, same = difference_interval(every, none), difference_interval(none, none)
    assert gained.low < 0 < gained.value == gained.high == 1
    assert same.low < -0.3 < 0.3 < same.high


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=50))
def test_the_interval_of_any_answers(pairs: list[tuple[bool, bool]]) -> None:
    right, baseline = (np.array(column) for column in zip(*pairs, strict=True))
    interval = difference_interval(right, baseline)
    assert -1 <= interval.low <= interval.value <= interval.high <= 1


@pytest.mark.parametrize(
    ("gained", "lost"), [(5, 0), (6, 0), (9, 2), (8, 2), (12, 3), (12, 4), (2, 1), (0, 3)]
)
def test_the_interval_is_above_0_if_and_only_if_a_sign_test_is_significant(gained: int, lost: int) -> None:
    """However many images are unchanged."""
    n = gained + lost
    exact = sum(comb(n, k) for k in range(gained, n + 1)) / 2**n
    for unchanged in (0, 40):
        right = np.arange(n + unchanged) < gained
        baseline = (np.arange(n + unchanged) >= gained) & (np.arange(n + unchanged) < n)
        assert (difference_interval(right, baseline).low > 0) == (exact <= 0.025)


@pytest.mark.parametrize(("right", "of"), [(0, 10), (10, 10), (7, 10), (70, 100)])
def test_an_accuracy_is_never_certain(right: int, of: int) -> None:
    interval = accuracy_interval(np.arange(of) < right)
    assert interval.value == right / of
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.high - interval.low > 0.1


def test_the_interval_of_an_accuracy_holds_it() -> None:
    generator = np.random.default_rng(0)
    held = [
        interval.low <= 0.85 <= interval.high
        for interval in (accuracy_interval(generator.random(30) < 0.85) for _ in range(400))
    ]
    assert 0.9 < np.mean(held) < 0.99


def test_held_out_images_shared_with_training_count_less() -> None:
    right = np.arange(100) < 80
    halves = accuracy_interval(right, images_per_fold_model=50)  # Two fold models.
    assert halves.value == 0.8
    assert halves.high - halves.low == pytest.approx(
        np.sqrt(3) * (accuracy_interval(right).high - accuracy_interval(right).low), rel=0.05
    )
    assert halves.low < accuracy_interval(right, images_per_fold_model=400).low < accuracy_interval(right).low
