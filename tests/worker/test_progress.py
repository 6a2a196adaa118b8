"""Fraction, phase and time left of a job, with a clock of the test."""

from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pytest

from clipcite.types.jobs import DOING, Phase
from core.clip.checks.estimate import work_by_phase
from core.clip.config import resolve_config
from core.clip.training.progress import StepProgress
from worker.paces import KEPT_JOBS, Paces, keep_paces, kept_paces
from worker.progress import JobProgress

STEPS = 50
LOSSES = {"total": 1.0, "dva": 0.5, "scl": 0.4, "vld": 0.3}
CONFIG = resolve_config(image_size=64)
WORK = work_by_phase(CONFIG.model_dump(), 40, 0)
PACE = 0.1
"""Seconds per unit of work, as measured earlier on this machine."""


class Attempt:
    """An attempt whose phases take `slower` times as long as in earlier jobs, and that beats each second."""

    def __init__(self, *, published: bool = False, measured: bool = True, slower: float = 1) -> None:
        self.now = 100.0
        self.slower = slower
        self.progress = JobProgress(published=published, clock=lambda: self.now)
        self.progress.plan(WORK, Paces(dict.fromkeys(DOING, PACE), measured))
        self.seen: list[tuple[float, dict[str, Any]]] = []

    def wait(self, seconds: float) -> None:
        """Pass time without any report."""
        until = self.now + seconds
        while self.now < until:
            beat = int(self.now) + 1.0
            self.now = min(until, beat)
            if self.now == beat:
                self.seen.append((self.now, self.progress.fields()))

    def work(self, phase: Phase) -> float:
        return WORK[phase] * PACE * self.slower

    def silent(self, *phases: Phase) -> None:
        """Pass phases that report nothing."""
        for phase in phases:
            self.progress.enter(phase)
            self.wait(self.work(phase))

    def train(self, first: int = 1, last: int = STEPS) -> None:
        if first == 1:
            self.progress.enter("steps")
        for step in range(first, last + 1):
            self.wait(self.work("steps") / STEPS)
            self.progress.step(StepProgress(1, 1, step, STEPS, LOSSES, images_per_second=9.5))

    def publish(self) -> None:
        self.silent("storing")
        self.progress.publish()

    def evaluate(self) -> None:
        self.progress.enter("folds")
        for number in range(1, 21):
            self.wait(self.work("folds") / 20)
            self.progress.advance(number / 20)
        self.silent("report")

    def whole(self) -> None:
        self.silent("starting", "reading", "features")
        self.train()
        self.silent("support")
        self.publish()
        self.evaluate()

    def at(self, share: float) -> tuple[float, dict[str, Any]]:
        """Return the true time left and the fields after this share of the attempt."""
        time = 100 + share * (self.now - 100)
        beat, fields = next(seen for seen in self.seen if seen[0] >= time)
        return self.now - beat, fields

    def of(self, name: str) -> list[Any]:
        return [fields[name] for _, fields in self.seen]


@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize("slower", [0.5, 1, 4])
def test_the_time_left_is_true_from_a_quarter_on(slower: float, measured: bool) -> None:
    attempt = Attempt(slower=slower, measured=measured)
    attempt.whole()
    for share in (0.25, 0.5, 0.75):
        true, fields = attempt.at(share)
        assert fields["eta_seconds"] == pytest.approx(true, rel=0.3), share
    assert attempt.of("eta_seconds")[-1] <= 3
    # What a person sees never goes back, and names every phase.
    assert all(before <= after for before, after in pairwise(attempt.of("fraction")))
    longest = 2 + attempt.work("folds") / 20
    assert all(len([*group]) <= longest for _, group in groupby(attempt.of("fraction")))
    assert 0.9 < attempt.of("fraction")[-1] < 1
    phases = [*dict.fromkeys(attempt.of("phase"))]
    assert phases == sorted(phases, key=[*DOING].index)
    assert {*phases} >= {phase for phase in WORK if attempt.work(phase) >= 1}
    assert all(fields["doing"] == DOING[fields["phase"]] for _, fields in attempt.seen)


def test_earlier_jobs_give_a_time_left_from_the_start_on() -> None:
    attempt = Attempt()
    attempt.wait(1)
    assert attempt.of("eta_seconds") == [pytest.approx(sum(WORK.values()) * PACE - 1, abs=0.1)]
    unknown = Attempt(measured=False)
    unknown.wait(1)
    assert unknown.of("eta_seconds") == [None]


def test_the_model_is_announced_before_the_end() -> None:
    attempt = Attempt()
    attempt.silent("starting", "reading", "features")
    attempt.train()
    attempt.silent("support")
    published = attempt.now + attempt.work("storing")
    stated = [(at + fields["model_eta_seconds"]) for at, fields in attempt.seen]
    assert stated == pytest.approx([published] * len(stated), abs=3)
    attempt.publish()
    assert attempt.progress.fields()["model_eta_seconds"] is None
    assert attempt.progress.fields()["stage"] == "evaluating"


def test_other_work_on_the_machine_makes_the_time_left_longer() -> None:
    attempt = Attempt()
    attempt.silent("starting", "reading", "features")
    attempt.train(last=25)
    calm = attempt.seen[-1][1]["eta_seconds"]
    attempt.slower = 4
    attempt.train(first=26, last=40)
    left = attempt.work("steps") / 5 + sum(map(attempt.work, ("support", "storing", "folds", "report")))
    assert attempt.seen[-1][1]["eta_seconds"] == pytest.approx(left, rel=0.2)
    assert left > calm


def test_a_phase_that_takes_much_too_long_is_not_almost_done() -> None:
    attempt = Attempt()
    attempt.silent("starting")
    attempt.progress.enter("reading")
    attempt.wait(100)
    later = sum(WORK[phase] for phase in WORK if phase not in ("starting", "reading")) * PACE
    assert attempt.seen[-1][1]["eta_seconds"] == pytest.approx(later + 25, rel=0.15)


def test_the_steps_of_an_earlier_attempt_took_no_time() -> None:
    attempt = Attempt()
    attempt.silent("starting", "reading", "features")
    attempt.progress.resume()
    attempt.progress.enter("steps")
    attempt.train(first=40, last=45)
    left = attempt.work("steps") / 10 + sum(map(attempt.work, ("support", "storing", "folds", "report")))
    assert attempt.seen[-1][1]["eta_seconds"] == pytest.approx(left, rel=0.1)
    assert "steps" not in attempt.progress.paces()


def test_an_attempt_that_only_evaluates() -> None:
    attempt = Attempt(published=True)
    attempt.silent("starting", "reading", "features")
    attempt.evaluate()
    assert set(attempt.of("stage")) == {"evaluating"}
    assert set(attempt.of("model_eta_seconds")) == {None}
    true, fields = attempt.at(0.25)
    assert fields["eta_seconds"] == pytest.approx(true, rel=0.3)


def test_messages_that_wait_while_the_model_is_stored_count_from_their_own_time() -> None:
    """The trainer evaluates meanwhile."""
    attempt = Attempt()
    attempt.silent("starting", "reading", "features")
    attempt.train()
    attempt.silent("support")
    began, share = attempt.now, WORK["folds"] * PACE
    attempt.progress.enter("storing")
    attempt.wait(10)
    attempt.progress.publish()
    attempt.progress.enter("folds", began)
    for second in range(1, 11):
        attempt.progress.advance(second / share, began + second)
    attempt.wait(1)
    assert attempt.seen[-1][1]["eta_seconds"] == pytest.approx(share + WORK["report"] * PACE - 11, abs=2)


def test_the_paces_of_the_last_jobs_are_kept(tmp_path: Path) -> None:
    assert not kept_paces(CONFIG, tmp_path).measured
    attempt = Attempt(slower=3)
    attempt.whole()
    for _ in range(KEPT_JOBS):
        keep_paces(CONFIG, tmp_path, attempt.progress.paces())
    kept = kept_paces(CONFIG, tmp_path)
    assert kept.measured
    assert {phase: kept.seconds[phase] for phase in WORK} == pytest.approx(
        dict.fromkeys(WORK, 3 * PACE), rel=0.1
    )
    other = CONFIG.model_copy(update={"image_size": 96})
    assert not kept_paces(other, tmp_path).measured
    for _ in range(KEPT_JOBS):
        keep_paces(CONFIG, tmp_path, {"steps": 7.0})
    assert kept_paces(CONFIG, tmp_path).seconds["steps"] == 7
