import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.clip.evaluate import (
    BaseToNew,
    Comparison,
    Interval,
    answers,
    compare,
    harmonic_mean,
    job_metrics,
    paired_bootstrap,
    verdict,
)


def slow_bootstrap(right: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> Interval:
    """Draw pictures with replacement, count, again and again."""
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
    # In steps of 1/n; two for the noise of 10,000 draws.
    assert fast.low == pytest.approx(slow.low, abs=2.1 / n)
    assert fast.high == pytest.approx(slow.high, abs=2.1 / n)
    assert fast.low < fast.value < fast.high


def test_the_bootstrap_pairs() -> None:
    """Equal answers on all pictures but a few: certain, though each accuracy alone is not."""
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


@pytest.mark.parametrize(
    ("base", "new", "hm"), [(0.8548, 0.7708, 0.8106), (0.5, 0.5, 0.5), (0.0, 0.9, 0.0), (0.0, 0.0, 0.0)]
)
def test_harmonic_mean(base: float, new: float, hm: float) -> None:
    assert harmonic_mean(base, new) == pytest.approx(hm, abs=1e-4)
    assert harmonic_mean(new, base) == harmonic_mean(base, new)


def test_answers_among_candidates() -> None:
    similarities = np.array([[0.9, 0.5, 0.7], [0.1, 0.2, 0.3]], dtype=np.float32)
    truth = np.array([2, 1])
    assert answers(similarities, truth, range(3)).tolist() == [False, False]
    assert answers(similarities, truth, [1, 2]).tolist() == [True, False]
    assert answers(similarities, truth, [2, 1]).tolist() == [True, False]
    assert answers(similarities, truth, [1]).tolist() == [False, True]
    assert answers(similarities, truth, [0]).tolist() == [False, False]


# Classes 0 and 1 are trained, 2 and 3 are new. One picture a row; the true class in the comment.
STOCK = np.array(
    [
        [0.5, 0.4, 0.1, 0.0],  # 0: right, also among all
        [0.4, 0.3, 0.6, 0.0],  # 0: right among trained, taken for a new name among all
        [0.5, 0.4, 0.0, 0.0],  # 1: wrong
        [0.0, 0.0, 0.5, 0.4],  # 2: right
        [0.0, 0.1, 0.5, 0.4],  # 3: wrong
    ],
    dtype=np.float32,
)
ADAPTED = np.array(
    [
        [0.9, 0.4, 0.1, 0.0],  # 0: right
        [0.9, 0.3, 0.6, 0.0],  # 0: now right among all too
        [0.5, 0.9, 0.0, 0.0],  # 1: now right
        [0.8, 0.0, 0.5, 0.4],  # 2: right among new, pulled to a trained name among all
        [0.0, 0.1, 0.4, 0.5],  # 3: now right
    ],
    dtype=np.float32,
)
TRUTH = np.array([0, 0, 1, 2, 3])


def accuracies(comparison: Comparison | None) -> tuple[float, float]:
    assert comparison is not None
    return comparison.stock, comparison.adapted


def test_compare_on_a_hand_made_example() -> None:
    result = compare(STOCK, ADAPTED, TRUTH, 2)
    assert accuracies(result.trained) == pytest.approx((2 / 3, 1))
    assert accuracies(result.new) == pytest.approx((1 / 2, 1))
    assert accuracies(result.mixed_trained) == pytest.approx((1 / 3, 1))
    assert accuracies(result.mixed_new) == pytest.approx((1 / 2, 1 / 2))
    assert accuracies(result.mixed) == pytest.approx((2 / 5, 4 / 5))
    assert result.mixed.difference().value == pytest.approx(0.4)
    assert result.mixed.stock_right.tolist() == [True, False, False, True, False]
    assert result.mixed.adapted_right.tolist() == [True, True, True, False, True]


def test_compare_does_not_depend_on_the_order_of_the_pictures() -> None:
    order = np.array([3, 1, 4, 0, 2])
    result, shuffled = (compare(STOCK[i], ADAPTED[i], TRUTH[i], 2) for i in (np.arange(5), order))
    for name in ("trained", "new", "mixed_trained", "mixed_new", "mixed"):
        assert accuracies(getattr(result, name)) == accuracies(getattr(shuffled, name))


def test_compare_without_pictures_of_a_half() -> None:
    trained_only = compare(STOCK[:3], ADAPTED[:3], TRUTH[:3], 2)
    assert (trained_only.new, trained_only.mixed_new) == (None, None)
    assert accuracies(trained_only.mixed) == accuracies(trained_only.mixed_trained)
    new_only = compare(STOCK[3:], ADAPTED[3:], TRUTH[3:], 2)
    assert (new_only.trained, new_only.mixed_trained) == (None, None)


def test_job_metrics() -> None:
    metrics = job_metrics(compare(STOCK, ADAPTED, TRUTH, 2), source="test", images=5, trained_images=9)
    assert metrics["measured_on"] == {"source": "test", "images": 5, "trained_images": 9}
    assert set(metrics) == {"measured_on", "trained_names", "new_names", "all_names", "verdict"}
    assert set(metrics["all_names"]) == {"trained", "new", "all"}
    accuracy = metrics["trained_names"]
    assert accuracy["stock"] == pytest.approx(2 / 3)
    assert accuracy["adapted"] == 1
    assert accuracy["difference"]["value"] == pytest.approx(1 / 3)
    assert set(accuracy["difference"]) == {"value", "low", "high"}
    assert metrics["new_names"]["adapted"] == 1
    assert metrics["all_names"]["new"] == {
        "stock": 0.5,
        "adapted": 0.5,
        "difference": vars(paired_bootstrap(ADAPTED[3:, 0] < 0.5, np.array([True, False]))),
    }
    assert metrics["all_names"]["all"]["stock"] == pytest.approx(0.4)
    assert metrics["verdict"] == "no_clear_gain"  # 5 pictures can't tell


def test_the_verdict_of_a_job_is_on_all_pictures_and_all_names() -> None:
    def comparison(stock: int, adapted: int) -> Comparison:
        return Comparison(np.arange(100) < stock, np.arange(100) < adapted)

    for adapted, expected in ((80, "better"), (20, "worse"), (50, "no_clear_gain")):
        result = BaseToNew(
            comparison(50, 100), comparison(50, 100), comparison(50, 100), comparison(50, 100),
            comparison(50, adapted),
        )  # fmt: skip
        metrics = job_metrics(result, source="holdout", images=100, trained_images=4)
        assert metrics["verdict"] == expected
        assert metrics["measured_on"]["source"] == "holdout"


def test_job_metrics_without_a_half() -> None:
    metrics = job_metrics(
        compare(STOCK[:3], ADAPTED[:3], TRUTH[:3], 2), source="test", images=3, trained_images=4
    )
    assert metrics["new_names"] is None
    assert metrics["all_names"]["new"] is None
    assert metrics["all_names"]["all"]["adapted"] == 1


def test_job_metrics_without_a_measurement() -> None:
    assert job_metrics(None, source="holdout", images=0, trained_images=12) == {
        "measured_on": {"source": "none", "images": 0, "trained_images": 12},
        "trained_names": None,
        "new_names": None,
        "all_names": None,
        "verdict": "not_measured",
    }
