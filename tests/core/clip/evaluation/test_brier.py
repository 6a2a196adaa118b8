"""The Brier gain detects a real gain on few images and rarely mistakes chance for one."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from core.clip.evaluation.accuracy import MAX_P, brier_gain
from core.clip.evaluation.predictions import Candidates, ClassScores, HeldOutPredictions
from core.clip.inference.calibration import MIN_HELD_OUT

K = 4


def scores(truth: NDArray[np.int64], lead: float, seed: int, boldness: float = 1.0) -> ClassScores:
    """Draw scores in which the true class leads by `lead` standard deviations of the noise."""
    cosines = np.random.default_rng(seed).normal(0, 0.05, (len(truth), K))
    cosines[np.arange(len(truth)), truth] += 0.05 * lead
    return ClassScores(boldness * cosines, boldness * cosines, cosines[:, :0])


def predictions(images: int, lead: float, *, boldness: float = 1.0, seed: int = 0) -> HeldOutPredictions:
    truth = np.random.default_rng(1000 + seed).integers(0, K, images)
    stock, adapted = scores(truth, 1.0, 2 * seed), scores(truth, lead, 2 * seed + 1, boldness)
    names = Candidates(tuple("abcd"), K, ((),) * K)
    none = np.arange(0)
    return HeldOutPredictions(names, np.arange(images), truth, stock, stock, adapted, {}, none)


def test_a_gain_on_eighty_images() -> None:
    found = brier_gain(predictions(80, lead=2.0), 40.0)
    assert found is not None
    assert 0 < found.low < found.value < found.high < 2
    assert found.p < 0.001


def test_overconfidence_is_no_gain() -> None:
    """Scaling all scores by three carries no information."""
    intervals = [brier_gain(predictions(80, lead=1.0, boldness=b), 40.0) for b in (1.0, 3.0)]
    for found in intervals:
        assert found is not None
        assert found.low < 0 < found.high
    one, other = intervals
    assert one is not None
    assert other is not None
    assert one.value == pytest.approx(other.value, abs=0.01)


@pytest.mark.slow
def test_chance_is_seldom_taken_for_a_gain() -> None:
    found = [brier_gain(predictions(60, lead=1.0, seed=seed), 40.0) for seed in range(100)]
    assert None not in found
    assert sum(gain is not None and gain.low > 0 for gain in found) <= 6
    assert sum(gain is not None and gain.p <= MAX_P for gain in found) <= 6


def test_lower_confidence_on_random_labels_is_no_gain() -> None:
    """The labels are random: the stock model is overconfident, the adapted model is cautious."""
    found = [
        brier_gain(replace(predictions(60, lead=0.0, seed=s), stock=scores(np.arange(60) % 3, 4.0, s)), 40.0)
        for s in range(40)
    ]
    assert None not in found
    assert sum(interval is not None and interval.low > 0 for interval in found) <= 3


def test_too_few_images_give_no_interval() -> None:
    assert brier_gain(predictions(MIN_HELD_OUT - 1, lead=2.0), 40.0) is None
