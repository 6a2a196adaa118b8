"""Changed predictions, the verdict, and agreement with the job's metrics."""

from dataclasses import replace

import pytest
from rich.console import Console

from demo.compare import disagreements
from demo.report import harmonic_mean, rows, show, verdict_words
from tests.demo.samples import result

TRAINED = ["a", "b"]


def test_changes_are_gains_losses_and_other_errors() -> None:
    compared = result(
        truths=["a", "a", "b", "new", "b", "new"],
        stock=["b", "a", "a", "new", "b", "a"],
        adapted=["a", "b", "new", "new", "b", "a"],
        trained=TRAINED,
    )
    assert [(c.change, c.stock_name, c.adapted_name) for c in compared.changed] == [
        ("gained", "b", "a"),
        ("lost", "a", "b"),
        ("still_wrong", "a", "new"),
    ]
    assert compared.unchanged() == (2, 1)


@pytest.mark.parametrize(
    ("stock", "adapted", "verdict", "words"),
    [
        ("b", "a", "better", "better than stock, +100.0"),
        ("a", "a", "no_clear_gain", "no clear gain, +0.0"),
        ("a", "b", "worse", "no clear gain (worse than stock), -100.0"),
    ],
)
def test_the_verdict_follows_the_measurement(stock: str, adapted: str, verdict: str, words: str) -> None:
    compared = result(["a"] * 20, [stock] * 20, [adapted] * 20, TRAINED)
    assert compared.verdict == verdict
    assert verdict_words(compared).startswith(words)


def test_agreement_with_the_job() -> None:
    compared = result(["a", "b", "new"], ["a", "a", "a"], ["a", "b", "a"], TRAINED)
    assert disagreements(compared) == []
    trained = {**compared.metrics["trained_classes"], "adapted": 0.5}
    other = replace(compared, metrics={**compared.metrics, "trained_classes": trained})
    assert disagreements(other) == ["trained classes only, adapted: 2 correct here, 1 in the job"]
    assert "new classes only: missing on one side" in disagreements(replace(compared, metrics={}))


def test_without_new_classes_the_table_has_one_row() -> None:
    compared = result(["a", "b"], ["a", "a"], ["a", "b"], TRAINED)
    assert [what for what, _ in rows(compared)] == ["all 2 classes"]
    assert disagreements(compared) == []


@pytest.mark.parametrize(
    ("base", "new", "hm"), [(0.8548, 0.7708, 0.8106), (0.5, 0.5, 0.5), (0.0, 0.9, 0.0), (0.0, 0.0, 0.0)]
)
def test_harmonic_mean(base: float, new: float, hm: float) -> None:
    assert harmonic_mean(base, new) == harmonic_mean(new, base) == pytest.approx(hm, abs=1e-4)


def test_the_table_fits_eighty_columns() -> None:
    console = Console(width=80, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as captured:
        show(console, result(["a", "b", "new"] * 40, ["a"] * 120, ["b"] * 120, TRAINED), "Title")
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 80
    row = next(line for line in lines if "all 3 classes" in line)
    assert "120" in row
    assert "33.3%" in row
    assert any("The metrics of the job agree" in line for line in lines)
