"""The judgement of a job's progress."""

from collections.abc import Sequence

from benchmarks.progress import Look, Measured, longest_pause, measure, summary, table


def looks(*given: tuple[float, float, float | None]) -> list[Look]:
    return [Look(seconds, "training", fraction, eta, None) for seconds, fraction, eta in given]


def judged(seen: Sequence[Look]) -> Measured:
    return measure(seen, "auto", load=False, model_seconds=4.0, seconds=8.0)


def test_a_good_progress_has_no_fault() -> None:
    found = judged(looks((1, 0.1, None), (2, 0.2, 9.0), (4, 0.5, 4.0), (6, 0.8, None), (7, 0.9, 1.0)))
    assert (found.falls, found.rises, found.standstill) == (0, 0, 0)
    assert (found.first_eta, found.half_eta, found.known) == (1.5, 1.0, 0.6)


def test_each_fault_is_counted() -> None:
    found = judged(looks((1, 0.1, 5.0), (2, 0.1, 6.0), (5, 0.1, None), (6, 0.05, 7.0), (7, 0.5, 1.0)))
    assert (found.falls, found.rises) == (1, 2)  # A rise across a time without a value is one, too.
    assert found.standstill == 5


def test_the_time_for_a_percent() -> None:
    slow = looks((1, 0.100, None), (2, 0.104, None), (4, 0.109, None), (5, 0.2, None))
    assert (longest_pause(slow, 0.0), longest_pause(slow, 0.01)) == (0.0, 3.0)


def test_the_model_is_compared_with_jobs_without_an_evaluation() -> None:
    seen = looks((1, 0.1, 5.0))
    plain = measure(seen, "none", load=False, model_seconds=4.0, seconds=4.0)
    late = measure(seen, "auto", load=True, model_seconds=40.0, seconds=80.0)
    found = summary([plain, judged(seen), late])
    assert (found["jobs"], found["ratio"]) == (2, 1.0)
    assert table([plain]).splitlines()[-1].startswith("| evaluate none | 4.0 | 4.0 | 0 | 0 |")
