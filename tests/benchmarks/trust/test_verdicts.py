"""The signed-rank verdict, the jobs of its plan and its condition."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.data.dataset import DataSet, Example
from benchmarks.trust.runs import Record
from benchmarks.trust.verdicts import adopted, earlier_verdict, jobs, judged, tables
from core.clip.evaluation.accuracy import Interval


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


@pytest.mark.parametrize(
    ("gained", "lost", "brier", "expected"),
    [
        (5, 2, (0.02, 0.1), "better"),
        (9, 1, (-0.02, 0.1), "better"),
        (5, 2, (-0.02, 0.1), "no_clear_gain"),
        (3, 3, (0.02, 0.1), "no_clear_gain"),
        (2, 5, (-0.1, -0.02), "worse"),
    ],
)
def test_the_earlier_rule_has_two_ways(
    gained: int, lost: int, brier: tuple[float, float], expected: str
) -> None:
    assert earlier_verdict(gained, lost, 60, Interval(sum(brier) / 2, *brier)) == expected


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
