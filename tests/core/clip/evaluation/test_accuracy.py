from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.clip.evaluation.accuracy import (
    BrierGain,
    Interval,
    difference_interval,
    more_test_images,
    probability_better,
    sign_test_p,
    signed_rank_p,
    verdict,
)


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


def test_the_interval_is_seeded() -> None:
    generator = np.random.default_rng(0)
    right, baseline = generator.random(1000) < 0.5, generator.random(1000) < 0.5
    assert difference_interval(right, baseline) == difference_interval(right, baseline)
    seeds = {difference_interval(right, baseline, seed=seed).low for seed in range(5)}
    assert len(seeds) > 1


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=50))
def test_the_interval_of_any_answers(pairs: list[tuple[bool, bool]]) -> None:
    right, baseline = (np.array(column) for column in zip(*pairs, strict=True))
    interval = difference_interval(right, baseline)
    assert -1 <= interval.low <= interval.value <= interval.high <= 1


@pytest.mark.parametrize(
    ("gained", "lost"), [(5, 0), (6, 0), (9, 2), (8, 2), (12, 3), (12, 4), (2, 1), (0, 3)]
)
def test_the_sign_test_is_that_of_the_binomial(gained: int, lost: int) -> None:
    """And the interval lies above 0 exactly if the test is significant, however many images are unchanged."""
    n = gained + lost
    exact = sum(comb(n, k) for k in range(gained, n + 1)) / 2**n
    assert sign_test_p(gained, lost) == pytest.approx(exact, abs=0.006)
    for unchanged in (0, 40):
        right = np.arange(n + unchanged) < gained
        baseline = (np.arange(n + unchanged) >= gained) & (np.arange(n + unchanged) < n)
        assert (difference_interval(right, baseline).low > 0) == (exact <= 0.025)


def test_images_of_a_cross_validation_count_less_in_the_sign_test() -> None:
    assert sign_test_p(6, 0) < 0.025 < sign_test_p(6, 0, share=1 / 3)
    assert sign_test_p(18, 0, share=1 / 3) == pytest.approx(sign_test_p(6, 0), abs=0.006)


@pytest.mark.parametrize(
    ("gained", "lost", "share", "expected"),
    [
        (6, 0, 1.0, "better"),
        (5, 0, 1.0, "no_clear_gain"),
        (1, 0, 1.0, "no_clear_gain"),
        (0, 6, 1.0, "worse"),
        (6, 0, 1 / 3, "no_clear_gain"),
        (18, 0, 1 / 3, "better"),
        (0, 18, 1 / 3, "worse"),
        (0, 0, 1.0, "no_clear_gain"),
    ],
)
def test_the_verdict_on_few_images_is_a_sign_test(
    gained: int, lost: int, share: float, expected: str
) -> None:
    assert verdict(gained, lost, share=share) == expected


def test_equal_models_seldom_get_a_verdict() -> None:
    """On 2 to 29 images, of which the models predict about half differently."""
    generator = np.random.default_rng(0)
    for images in (2, 5, 8, 12, 29):
        changed = generator.binomial(images, 0.5, 1000)
        gained = generator.binomial(changed, 0.5)
        found = [verdict(int(g), int(c - g)) for g, c in zip(gained, changed, strict=True)]
        assert found.count("better") <= 0.035 * 1000
        assert found.count("worse") <= 0.035 * 1000


@pytest.mark.parametrize(
    ("changes", "brier", "p", "expected"),
    [
        ((8, 4), 0.06, 0.025, "better"),
        ((8, 4), 0.06, 0.026, "no_clear_gain"),
        ((8, 4), -0.01, 0.01, "no_clear_gain"),
        ((4, 4), 0.06, 0.01, "no_clear_gain"),
        ((4, 8), 0.06, 0.01, "no_clear_gain"),
        ((4, 8), -0.06, 0.975, "worse"),
        ((4, 8), -0.06, 0.974, "no_clear_gain"),
        ((4, 8), 0.01, 0.99, "no_clear_gain"),
    ],
)
def test_the_verdict_needs_accuracy_mean_and_ranks(
    changes: tuple[int, int], brier: float, p: float, expected: str
) -> None:
    """With a Brier gain there is no sign test, and its interval is not asked."""
    gain = BrierGain(brier, brier - 1, brier + 1, p)
    assert verdict(*changes, gain) == expected
    assert verdict(*(10 * change for change in changes), gain) == expected


def slow_p(differences: NDArray[np.float64]) -> float:
    """Compare with all 2ⁿ signs of the same ranks."""
    kept = differences[differences != 0]
    sizes = np.abs(kept)
    ranks = np.array([(sizes < size).sum() + ((sizes == size).sum() + 1) / 2 for size in sizes])
    observed = ranks[kept > 0].sum()
    sums = np.array(list(product((0, 1), repeat=len(kept)))) @ ranks
    # Half of the ties, since the normal approximation has no continuity correction.
    return float(((sums > observed) + 0.5 * (sums == observed)).mean())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("digits", [3, 1, 0])  # With 1 and 0 there are ties and zeros.
def test_p_is_that_of_all_signs(seed: int, digits: int) -> None:
    generator = np.random.default_rng(seed)
    differences = np.round(generator.normal(0.3 * (seed - 2), 1, 13), digits)
    assert signed_rank_p(differences) == pytest.approx(slow_p(differences), abs=0.03)
    assert signed_rank_p(-differences) == pytest.approx(1 - signed_rank_p(differences))


def test_p_of_equal_sizes_is_that_of_a_sign_test() -> None:
    """14 of 20 differences are above 0, all of the same size."""
    exact = (sum(comb(20, k) for k in range(15, 21)) + comb(20, 14) / 2) / 2**20
    assert signed_rank_p(np.array([1.0] * 14 + [-1.0] * 6)) == pytest.approx(exact, abs=0.01)


def test_p_of_no_difference_is_a_half() -> None:
    assert signed_rank_p(np.zeros(40)) == 0.5
    assert signed_rank_p(np.array([1.0, -1.0])) == 0.5


def test_p_is_seldom_small_by_chance() -> None:
    generator = np.random.default_rng(0)
    small = np.mean([signed_rank_p(generator.standard_t(2, 60)) <= 0.025 for _ in range(2000)])
    assert 0.015 < small < 0.035


@pytest.mark.parametrize(
    ("gained", "lost", "unchanged"), [(0, 0, 10), (1, 0, 9), (9, 3, 20), (3, 9, 70), (20, 18, 2), (40, 0, 0)]
)
def test_the_probability_is_that_of_the_dirichlet_posterior(gained: int, lost: int, unchanged: int) -> None:
    """By a sum over the simplex of shares, whose interior is cut into midpoints."""
    steps = 2000
    gain, loss = np.meshgrid(*[(np.arange(steps) + 0.5) / steps] * 2)
    rest = 1 - gain - loss
    inside = rest > 0
    log = np.full(gain.shape, -np.inf)
    log[inside] = sum(
        (count - 0.5) * np.log(share[inside])
        for count, share in ((gained, gain), (lost, loss), (unchanged, rest))
    )
    density = np.exp(log - log.max())
    expected = (density * (gain > loss)).sum() / density.sum() + (
        density * (gain == loss)
    ).sum() / density.sum() / 2
    assert probability_better(gained, lost) == pytest.approx(expected, abs=0.02)


def test_the_probability_of_no_change_is_a_half() -> None:
    assert probability_better(0, 0) == pytest.approx(0.5, abs=0.02)
    assert probability_better(5, 2) == pytest.approx(1 - probability_better(2, 5), abs=0.02)


@pytest.mark.parametrize(
    ("interval", "images", "test_images", "expected"),
    [
        (Interval(0.07, -0.05, 0.19), 32, 32, 70),  # 32 (0.12 / 0.07)² − 32 = 62
        (Interval(0.07, -0.05, 0.19), 32, 0, 100),  # 94
        (Interval(0.10, 0.0, 0.2), 32, 32, 10),  # 0: a single image may decide
        (Interval(0.05, -0.15, 0.25), 32, 32, None),  # 15 times as many
        (Interval(0.0, -0.1, 0.1), 32, 32, None),
        (Interval(-0.1, -0.2, 0.0), 32, 32, None),
        (Interval(0.05, 0.03, 0.07), 600, 600, None),  # Accuracy needs no more images.
    ],
)
def test_more_test_images_by_hand(
    interval: Interval, images: int, test_images: int, expected: int | None
) -> None:
    assert more_test_images(interval, images, test_images) == expected


def test_that_many_more_images_prove_a_gain_of_the_same_size() -> None:
    correct, baseline = np.arange(40) < 34, (np.arange(40) >= 3) & (np.arange(40) < 32)
    correct[3] = False
    found = difference_interval(correct, baseline)
    assert found.low <= 0 < found.value
    more = more_test_images(found, 40, 40)
    assert more is not None
    places = np.arange(40 + 2 * more) % 40
    assert difference_interval(correct[places], baseline[places]).low > 0
