"""The rule for the default sample, applied to runs made up by hand."""

import io
from typing import Any

import pytest
from rich.console import Console

from benchmarks.samples import SEEDS, default, passes, sheet, table
from core.samples import catalog


def runs(better: int, seconds: float = 30.0) -> list[dict[str, Any]]:
    verdicts = ["better"] * better + ["no_clear_gain"] * (SEEDS - better)
    accuracy = {row: {"stock": 0.25, "adapted": 0.75} for row in ("trained", "new", "all")}
    times = {"seconds": seconds, "processor_seconds": 2 * seconds}
    return [{"verdict": verdict, "accuracy": accuracy, **times} for verdict in verdicts]


@pytest.mark.parametrize(
    ("name", "better", "seconds", "passed"),
    [
        ("parts", 9, 60, True),
        ("parts", 8, 60, False),
        ("parts", 10, 60.1, False),
        ("textiles", 10, 10, False),  # not recognisable
    ],
)
def test_each_condition_counts(name: str, better: int, seconds: float, passed: bool) -> None:
    assert passes(name, runs(better, seconds)) == passed


def test_on_a_busy_machine_the_processor_seconds_count() -> None:
    busy = [{**run, "seconds": 300.0, "processor_seconds": 40.0} for run in runs(10)]
    assert passes("parts", busy)


def test_the_smaller_download_wins() -> None:
    stored = {name: {"runs": runs(10)} for name in ("drawings", "parts", "textiles")}
    assert default(stored) == "parts"
    assert default({**stored, "parts": {"runs": runs(8)}}) == "drawings"
    assert default({"textiles": stored["textiles"]}) is None


def test_the_catalogue_begins_with_the_default() -> None:
    stored = {sample.name: {"runs": runs(10)} for sample in catalog.SAMPLES}
    assert catalog.SAMPLES[0].name == default(stored)


def test_the_table() -> None:
    output = io.StringIO()
    Console(file=output, width=140).print(table({"parts": {"runs": runs(9)}}))
    assert "9 of 10" in output.getvalue()
    assert "25% → 75%" in output.getvalue()


def test_the_sheet_has_one_row_per_class() -> None:
    [parts] = [sample for sample in catalog.SAMPLES if sample.name == "parts"]
    assert sheet([parts], columns=2).size == (2 * 160, 6 * 160)
