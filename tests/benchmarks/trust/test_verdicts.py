"""The signed-rank verdict, the jobs of its plan and its condition."""

from itertools import product
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.data.dataset import DataSet, Example
from benchmarks.trust.runs import Record
from benchmarks.trust.verdicts import adopted, jobs, judged, signed_rank_p, tables, verdict_by_ranks
from core.clip.evaluation.accuracy import Interval


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
    ("accuracy", "shift", "expected"),
    [
        (0.1, 0.5, "better"),
        (0.0, 0.5, "no_clear_gain"),
        (-0.1, 0.5, "no_clear_gain"),
        (-0.1, -0.5, "worse"),
        (0.1, 0.0, "no_clear_gain"),
    ],
)
def test_the_rule_needs_ranks_mean_and_accuracy(accuracy: float, shift: float, expected: str) -> None:
    gains = np.random.default_rng(0).normal(0, 1, 60)
    gains += shift - gains.mean()
    assert verdict_by_ranks(Interval(accuracy, -1, 1), gains) == expected


def test_ranks_alone_are_not_enough() -> None:
    """Many small gains and a few large losses: the mean is below 0."""
    gains = np.array([0.01] * 50 + [-1.0] * 5)
    assert signed_rank_p(gains) < 0.025
    assert verdict_by_ranks(Interval(0.1, -1, 1), gains) == "no_clear_gain"


def data(name: str) -> DataSet:
    images = tuple(Example(Path(f"{label}/{i}.jpg"), label) for label in range(12) for i in range(6))
    return DataSet(name, tuple(f"class {label}" for label in range(12)), ("a {}.",), images, images)


def test_the_jobs_are_the_plans() -> None:
    made = jobs([data("stamps")], [data("clothing"), data("cifar10")])
    counts = {
        (labels, name): sorted(t.split for kind, t in made if (kind, t.data.name) == (labels, name))
        for labels in ("shuffled", "true")
        for name in ("stamps", "clothing", "cifar10")
    }
    assert {key: (len(s), s[0], s[-1]) for key, s in counts.items()} == {
        ("shuffled", "stamps"): (60, 5, 64),
        ("shuffled", "clothing"): (20, 5, 24),
        ("shuffled", "cifar10"): (20, 5, 24),
        ("true", "stamps"): (10, 5, 14),
        ("true", "clothing"): (10, 5, 14),
        ("true", "cifar10"): (10, 5, 14),
    }
    assert all(trial.seed == trial.split for _, trial in made)
    first = [labels for labels, _ in made[:65]]
    assert 48 <= first.count("shuffled") <= 52


def record(lead: float) -> Record:
    """Return a record of 60 images whose adapted scores lead by `lead` more than those of the stock model."""
    truth = np.arange(60) % 3
    stock = np.random.default_rng(1).normal(0, 0.03, (60, 3))
    stock[np.arange(60), truth] += 0.02
    adapted = stock.copy()
    adapted[np.arange(60), truth] += lead
    plain = {"labels": "true", "data": "stamps", "logit_scale": 40.0}
    return Record(plain, {"truth": truth.astype(np.uint8), "stock": stock, "adapted": adapted})


def test_a_record_is_judged_by_both_rules() -> None:
    gain, loss = judged(record(0.05)), judged(record(-0.05))
    assert (gain["today"], gain["ranks"], gain["images"]) == ("better", "better", 60)
    assert (loss["today"], loss["ranks"]) == ("worse", "worse")
    assert gain["probability"] > 0.9 > 0.1 > loss["probability"]


def series(false: int, true_by_ranks: int, true_today: int, shuffled: int = 100) -> list[dict[str, Any]]:
    def row(labels: str, today: bool, ranks: bool) -> dict[str, Any]:
        words = ("no_clear_gain", "better")
        return {
            "labels": labels,
            "data": "stamps",
            "today": words[today],
            "ranks": words[ranks],
            "probability": 0.5,
        }

    return [
        *[row("shuffled", False, i < false) for i in range(shuffled)],
        *[row("true", i < true_today, i < true_by_ranks) for i in range(30)],
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (series(6, 20, 20), True),
        (series(7, 30, 20), False),
        (series(0, 19, 20), False),
        (series(0, 30, 20, shuffled=99), False),
    ],
)
def test_the_condition_of_the_plan(rows: list[dict[str, Any]], expected: bool) -> None:
    assert adopted(rows) is expected
    (table,) = tables(rows)
    assert table.note.endswith("yes." if expected else "no.")
    assert table.rows[-1][:3] == ["true", "all", "30"]
