"""The schedule derived from a seed, and the stored results of a run."""

from pathlib import Path

from benchmarks.chaos.cases.all import CASES, TESTED
from benchmarks.chaos.faults import FAULTS, schedule

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
