"""The schedule derived from a seed, and the stored results of a run."""

from pathlib import Path

import pytest

from benchmarks.chaos import report
from benchmarks.chaos.__main__ import main
from benchmarks.chaos.cases.all import CASES, TESTED
from benchmarks.chaos.faults import FAULTS, schedule
from benchmarks.chaos.invariants import Finding
from benchmarks.chaos.mixed import Outcome
from benchmarks.chaos.report import Row
from benchmarks.chaos.world import STORES

ROOT = Path(__file__).parents[3]


def test_a_seed_decides_and_no_kind_is_left_out() -> None:
    kinds = list(FAULTS["postgres"])
    plan = schedule(7, 20, 200, kinds)
    assert plan == schedule(7, 20, 200, kinds) != schedule(8, 20, 200, kinds)
    assert {planned.kind for planned in plan[: len(kinds)]} == set(kinds)
    at = [planned.after_jobs for planned in plan]
    assert at == sorted(at)
    assert 0 <= at[0] <= at[-1] < 200


def test_every_case_is_named_once_and_every_test_is_there() -> None:
    numbers = [case.number for case in CASES] + [tested[0] for tested in TESTED]
    assert len(set(numbers)) == len(numbers)
    for *_, test in TESTED:
        file, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("broken", [[], ["job_1: running"]])
def test_a_finished_run_is_shown_and_not_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: list[str]
) -> None:
    for store in STORES:
        outcome = Outcome(
            store=store,
            seed=1,
            jobs=4,
            faults={"worker killed": 2},
            findings=[Finding("every job ended", 4, broken)],
            statuses={"succeeded": 4},
            attempts={"1": 3, "2": 1},
            retries=0,
            replayed=0,
            restarts=2,
            seconds=60.0,
        )
        report.keep(tmp_path, f"mixed-{store}-seed1-4jobs-2faults", outcome)
    assert main(["--jobs", "4", "--faults", "2", "--out", str(tmp_path)]) == bool(broken)
    said = capsys.readouterr().out
    assert "| – worker killed | 2 | 2 | 2 |" in said
    assert ("1 of 4 broken" in said) == bool(broken)
    assert ("holds (4)" in said) != bool(broken)


def test_finished_cases_are_shown_and_not_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for case in CASES:
        name = f"case-{case.number.replace(', ', '+')}-seed1"
        report.keep(
            tmp_path, name, Row(case.number, case.what, case.expected, "as wanted", case.number != "5")
        )
    assert main(["--cases", "--out", str(tmp_path)]) == 1
    assert main(["--cases", "2", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.count("**(not met)**") == 1
    assert "| 2 | " in said
