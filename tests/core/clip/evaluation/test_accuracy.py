import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.clip.evaluation.accuracy import Interval, paired_bootstrap, verdict


def slow_bootstrap(right: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> Interval:
    """Resample the images with replacement and count the hits."""
    generator = np.random.default_rng(1)
    n = len(right)
    differences = []
    for _ in range(10_000):
        drawn = generator.integers(0, n, n)
        differences.append(right[drawn].mean() - baseline[drawn].mean())
    low, high = np.percentile(differences, [2.5, 97.5])
    return Interval(right.mean() - baseline.mean(), low, high)


@pytest.mark.parametrize("discordant", [0.05, 0.3, 0.8])
def test_the_bootstrap_is_the_slow_one(discordant: float) -> None:
    n = 400
    generator = np.random.default_rng(0)
    baseline = generator.random(n) < 0.6
    right = np.where(generator.random(n) < discordant, generator.random(n) < 0.7, baseline)
    fast, slow = paired_bootstrap(right, baseline), slow_bootstrap(right, baseline)
    assert fast.value == pytest.approx(slow.value)
    # In steps of 1/n; two steps for the noise of 10,000 draws.
    assert fast.low == pytest.approx(slow.low, abs=2.1 / n)
    assert fast.high == pytest.approx(slow.high, abs=2.1 / n)
    assert fast.low < fast.value < fast.high


def test_the_bootstrap_pairs() -> None:
    """Both models agree on all images but a few: the difference is certain although each accuracy is not."""
    baseline = np.arange(100) % 2 == 0
    better = baseline.copy()
    better[1:20:2] = True
    interval = paired_bootstrap(better, baseline)
    assert interval.value == pytest.approx(0.1)
    assert 0.03 < interval.low < 0.06
    assert paired_bootstrap(baseline, better).high == pytest.approx(-interval.low, abs=0.011)


@pytest.mark.parametrize(("right", "low"), [([True] * 5, 1.0), ([False] * 5, 0.0)])
def test_the_bootstrap_without_variance(right: list[bool], low: float) -> None:
    baseline = np.zeros(5, dtype=bool)
    assert paired_bootstrap(np.array(right), baseline) == Interval(low, low, low)


def test_the_bootstrap_is_seeded() -> None:
    generator = np.random.default_rng(0)
    right, baseline = generator.random(1000) < 0.5, generator.random(1000) < 0.5
    assert paired_bootstrap(right, baseline) == paired_bootstrap(right, baseline)
    seeds = {paired_bootstrap(right, baseline, seed=seed).low for seed in range(5)}
    assert len(seeds) > 1


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=50))
def test_the_bootstrap_of_any_answers(pairs: list[tuple[bool, bool]]) -> None:
    right, baseline = (np.array(column) for column in zip(*pairs, strict=True))
    interval = paired_bootstrap(right, baseline)
    rounding = 1e-9
    assert -1 <= interval.low <= interval.value + rounding
    assert interval.value - rounding <= interval.high <= 1


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.01, 0.2, "better"),
        (-0.2, -0.01, "worse"),
        (-0.1, 0.1, "no_clear_gain"),
        (0.0, 0.2, "no_clear_gain"),
        (-0.2, 0.0, "no_clear_gain"),
        (0.0, 0.0, "no_clear_gain"),
    ],
)
def test_the_verdict_needs_the_whole_interval(low: float, high: float, expected: str) -> None:
    assert verdict(Interval((low + high) / 2, low, high)) == expected


@pytest.mark.parametrize(
    ("gain", "brier_gain", "expected"),
    [
        (0.1, (0.02, 0.1), "better"),
        (0.1, (-0.02, 0.1), "no_clear_gain"),
        (0.0, (0.02, 0.1), "no_clear_gain"),
        (-0.1, (0.02, 0.1), "no_clear_gain"),
        (-0.1, (-0.1, -0.02), "worse"),
    ],
)
def test_a_small_gain_counts_if_the_probabilities_are_nearer_to_the_truth(
    gain: float, brier_gain: tuple[float, float], expected: str
) -> None:
    assert (
        verdict(Interval(gain, gain - 0.2, gain + 0.2), Interval(sum(brier_gain) / 2, *brier_gain))
        == expected
    )
