"""The verdict detects a real gain on few images and rarely mistakes chance for one."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from core.clip.evaluation.predictions import ClassScores, HeldOutPredictions
from core.clip.evaluation.verdict import brier_gains, judge, signed_rank_p
from core.clip.inference.calibration import MIN_HELD_OUT
from core.clip.prompts import Candidates
from tests.core.clip.reports import changed_by_hand

K = 4


def scores(truth: NDArray[np.int64], lead: float, seed: int, boldness: float = 1.0) -> ClassScores:
    """Draw scores in which the true class leads by `lead` standard deviations of the noise."""
    cosines = np.random.default_rng(seed).normal(0, 0.05, (len(truth), K))
    cosines[np.arange(len(truth)), truth] += 0.05 * lead
    return ClassScores(boldness * cosines, boldness * cosines, cosines[:, :0])


def predictions(images: int, lead: float, *, boldness: float = 1.0, seed: int = 0) -> HeldOutPredictions:
    truth = np.random.default_rng(1000 + seed).integers(0, K, images)
    stock, adapted = scores(truth, 1.0, 2 * seed), scores(truth, lead, 2 * seed + 1, boldness)
    names = Candidates.of("abcd", "abcd", [])
    return HeldOutPredictions(names, np.arange(images), truth, stock, adapted)


def test_a_gain_on_eighty_images() -> None:
    found = judge(predictions(80, lead=2.0), 40.0)
    assert found.verdict == "better"
    assert found.p < 0.001
    assert 40 < found.more_certain < 80


def test_the_mirror_image_is_a_loss() -> None:
    held = predictions(80, lead=2.0)
    swapped = replace(held, stock=held.adapted, adapted=held.stock)
    assert judge(swapped, 40.0).verdict == "worse"
    assert judge(swapped, 40.0).p == judge(held, 40.0).p


def test_overconfidence_is_not_a_gain() -> None:
    """Scaling all scores by three carries no information."""
    honest, bold = (brier_gains(predictions(80, lead=1.0, boldness=b), 40.0) for b in (1.0, 3.0))
    assert honest.mean() == pytest.approx(bold.mean(), abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("images", [8, 20, 60])
def test_chance_is_seldom_taken_for_a_gain(images: int) -> None:
    found = [judge(predictions(images, lead=1.0, seed=seed), 40.0).verdict for seed in range(100)]
    assert found.count("better") <= 6
    assert found.count("worse") <= 6


def test_lower_confidence_on_random_labels_is_not_a_gain() -> None:
    """The labels are random: the stock model is overconfident, the adapted model is cautious."""
    found = [
        judge(replace(predictions(60, lead=0.0, seed=s), stock=scores(np.arange(60) % 3, 4.0, s)), 40.0)
        for s in range(40)
    ]
    assert [judgement.verdict for judgement in found].count("better") <= 3


@pytest.mark.parametrize(
    ("gained", "lost", "both", "expected"),
    [
        (6, 0, 5, "better"),
        (5, 0, 15, "probably_better"),  # p = 1/32
        (2, 0, 15, "no_clear_gain"),  # p = 1/4
        (5, 2, 15, "no_clear_gain"),  # p = 29/128
        (0, 6, 5, "worse"),
        (0, 5, 0, "probably_worse"),
        (4, 4, 4, "no_clear_gain"),
        (0, 0, 9, "no_clear_gain"),
    ],
)
def test_below_thirty_images_the_changed_ones_count(gained: int, lost: int, both: int, expected: str) -> None:
    assert gained + lost + both < MIN_HELD_OUT
    assert judge(changed_by_hand(gained, lost, both), 40.0).verdict == expected


def test_p_of_no_difference_is_one() -> None:
    assert signed_rank_p(np.zeros(40)) == 1.0
