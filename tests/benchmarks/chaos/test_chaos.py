"""The schedule derived from a seed."""

from benchmarks.chaos.faults import FAULTS, schedule


def test_a_seed_decides_and_no_kind_is_left_out() -> None:
    kinds = list(FAULTS["postgres"])
    plan = schedule(7, 20, 200, kinds)
    assert plan == schedule(7, 20, 200, kinds) != schedule(8, 20, 200, kinds)
    assert {planned.kind for planned in plan[: len(kinds)]} == set(kinds)
    at = [planned.after_jobs for planned in plan]
    assert at == sorted(at)
    assert 0 <= at[0] <= at[-1] < 200
