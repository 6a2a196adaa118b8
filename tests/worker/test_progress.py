"""Fraction and time left of a job, with a clock of the test."""

from itertools import pairwise
from typing import Any

import pytest

from worker.progress import JobProgress

TRAINING, EVALUATION, STEPS = 200.0, 140.0, 50
LOSSES = {"total": 1.0, "dva": 0.5, "scl": 0.4, "vld": 0.3}


class Attempt:
    """An attempt on a machine that takes `pace` seconds per unit of work, and beats each second."""

    def __init__(self, *, published: bool = False) -> None:
        self.now = 100.0
        self.progress = JobProgress(published=published, clock=lambda: self.now)
        self.progress.plan(TRAINING, EVALUATION)
        self.seen: list[dict[str, Any]] = []
        self.pace = 0.5

    def wait(self, seconds: float) -> None:
        """Pass time without any report."""
        until = self.now + seconds
        while self.now < until:
            beat = int(self.now) + 1.0
            self.now = min(until, beat)
            if self.now == beat:
                self.seen.append(self.progress.fields())

    def train(self, first: int = 1, last: int = STEPS) -> None:
        for step in range(first, last + 1):
            self.wait(TRAINING / STEPS * self.pace)
            counts = {"epoch": 1, "epochs": 1, "step": step, "steps": STEPS, "images_per_second": 9.5}
            self.progress.step({**counts, "loss": LOSSES})

    def publish(self) -> None:
        self.progress.enter("publishing")
        self.wait(1)
        self.progress.publish()

    def evaluate(self) -> None:
        for number in range(1, 21):
            self.wait(EVALUATION / 20 * self.pace)
            self.progress.evaluated(number / 20)

    def known(self, name: str) -> list[float]:
        return [fields[name] for fields in self.seen if fields[name] is not None]

    def assert_honest(self) -> None:
        assert all(before <= after for before, after in pairwise(self.known("fraction")))
        assert self.seen[-1]["fraction"] < 1
        for name in ("eta_seconds", "model_eta_seconds"):
            assert all(before >= after for before, after in pairwise(self.known(name))), name


@pytest.mark.parametrize("slower", [0.25, 1, 4])
def test_the_progress_of_a_whole_attempt(slower: float) -> None:
    """The evaluation may take longer or shorter than thought."""
    attempt = Attempt()
    attempt.wait(3)
    attempt.train()
    attempt.publish()
    attempt.pace *= slower
    attempt.evaluate()
    attempt.wait(2)
    attempt.assert_honest()
    assert (attempt.seen[0]["stage"], attempt.seen[-1]["stage"]) == ("preparing", "evaluating")
    assert attempt.known("eta_seconds")[-1] < 2
    assert attempt.seen[-1]["fraction"] > 0.9
    assert {f["model_eta_seconds"] for f in attempt.seen if f["stage"] == "evaluating"} == {None}


def test_the_time_left_is_that_at_the_measured_pace() -> None:
    attempt = Attempt()
    attempt.train(last=25)
    model, end = (attempt.seen[-1][name] for name in ("model_eta_seconds", "eta_seconds"))
    assert model == pytest.approx(attempt.pace * TRAINING / 2, rel=0.1)
    assert end == pytest.approx(attempt.pace * (TRAINING / 2 + EVALUATION), rel=0.1)


def test_a_machine_that_becomes_much_slower_makes_the_time_unknown() -> None:
    attempt = Attempt()
    attempt.train(last=25)
    assert attempt.seen[-1]["eta_seconds"] is not None
    attempt.pace *= 10
    attempt.train(first=26, last=45)
    assert attempt.seen[-1]["eta_seconds"] is None
    attempt.assert_honest()


def test_the_steps_of_an_earlier_attempt_took_no_time() -> None:
    attempt = Attempt()
    attempt.train(first=40, last=45)
    assert attempt.seen[-1]["fraction"] == pytest.approx(0.9 * TRAINING / (TRAINING + EVALUATION), abs=0.06)
    assert attempt.seen[-1]["eta_seconds"] == pytest.approx(attempt.pace * (EVALUATION + 24), rel=0.1)


def test_an_attempt_that_only_evaluates() -> None:
    attempt = Attempt(published=True)
    attempt.progress.enter("preparing")
    attempt.wait(3)
    attempt.evaluate()
    attempt.assert_honest()
    assert {fields["stage"] for fields in attempt.seen} == {"evaluating"}
    assert attempt.known("model_eta_seconds") == []
    assert attempt.known("eta_seconds")[-1] < 5
