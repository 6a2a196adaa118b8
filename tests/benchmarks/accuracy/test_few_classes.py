"""The decision of benchmarks/plans/few-classes.md, on a tiny model and on made-up differences."""

import json
from pathlib import Path

import pytest

from benchmarks.accuracy import encodings, few_classes
from benchmarks.accuracy.few_classes import ARMS, LEAST, holds
from benchmarks.accuracy.measures import Difference
from tests.benchmarks.accuracy.test_rescore import arguments

__all__ = ["arguments"]


def differences(**changed: tuple[float, float]) -> dict[str, Difference]:
    made = {m: Difference(0.02, 0.01, 0.03) for m in ("mixed HM", "all", "one new", "mixed retention")}
    for name, (value, low) in changed.items():
        made[name.replace("_", " ")] = Difference(value, low, value + 0.01)
    return made


@pytest.mark.parametrize(
    ("changed", "adapted", "preview"),
    [
        ({}, True, True),
        ({"mixed_HM": (0.01, 0.001)}, True, True),
        ({"mixed_HM": (0.01, 0.0)}, False, True),
        ({"mixed_HM": (-0.004, -0.01)}, False, False),
        ({"all": (-0.003, -0.02)}, True, True),
        ({"all": (-0.0031, -0.02)}, False, False),
        ({"one_new": (-0.015, -0.02)}, True, True),
        ({"one_new": (-0.0151, -0.02)}, False, True),
        ({"mixed_retention": (-0.0031, -0.02)}, False, True),
    ],
)
def test_conditions(changed: dict[str, tuple[float, float]], adapted: bool, preview: bool) -> None:
    made = differences(**changed)
    assert (holds("adapted model", made), holds("instant preview", made)) == (adapted, preview)


def test_a_missing_measure_adopts_nothing() -> None:
    made = differences()
    del made["mixed retention"]
    assert not holds("adapted model", made)


def test_the_table_comes_from_stored_features(arguments: list[str], tmp_path: Path) -> None:
    few = [*arguments, "--classes", "2"]
    encodings.main([*few, "--alphas", "0.5"])
    few_classes.main(few)
    (table,) = json.loads((tmp_path / "out" / "few-classes-2.json").read_text(encoding="utf-8"))
    assert [row[0] for row in table["rows"]] == [
        "stock",
        *(label for name in ARMS for label in (f"{name}, whole levels", f"{name}, 2/5 of them")),
    ]
    assert set(LEAST["adapted model"]) < set(table["columns"])
    assert [row[-1] in {"yes", "**no**"} for row in table["rows"]] == [False, False, True, False, True]
