"""Fraction and time left of a job, with a clock of the test."""

from itertools import pairwise
from typing import Any

import pytest

from worker.progress import COSTS, JobProgress, TimeLeft

TRAINING = {"decode": 20, "train": 200, "image": 40, "prompt": 4}
EVALUATION = {"train": 140, "image": 120, "prompt": 30}


class Attempt:
    """An attempt on a machine that takes `pace` seconds per unit of cost, reports each unit and beats each
    second."""

    def __init__(self, *, published: bool = False) -> None:
        self.now = 100.0
        self.progress = JobProgress(published=published, clock=lambda: self.now)
        self.seen: list[dict[str, Any]] = []
        self.pace = 0.05
        self.skew = dict.fromkeys(COSTS, 1.0)
        """Factors by which the kinds of work take longer than their costs."""

    def wait(self, seconds: float) -> None:
        """Pass time without any report."""
        until = self.now + seconds
        while self.now < until:
            beat = int(self.now) + 1.0
            self.now = min(until, beat)
            if self.now == beat:
                self.seen.append(self.progress.fields())

    def work(self, work: dict[str, int], batch: int = 4) -> None:
        for kind, units in work.items():
            for start in range(0, units, batch):
                count = min(batch, units - start)
                self.wait(count * COSTS[kind] * self.pace * self.skew[kind])
                self.progress.work(kind, count, earlier=False)

    def run(self) -> None:
        self.wait(3)
        self.progress.plan(TRAINING, EVALUATION)
        self.work(TRAINING)
        self.publish()
        self.work(EVALUATION)
        self.wait(2)

    def publish(self) -> None:
        self.progress.trained()
        self.progress.enter("publishing")
        self.wait(1)
        self.progress.publish()

    def known(self, name: str) -> list[float]:
        return [fields[name] for fields in self.seen if fields[name] is not None]

    def assert_honest(self) -> None:
        fractions = self.known("fraction")
        assert all(before < after for before, after in pairwise(fractions))
        assert fractions[0] > 0
        assert fractions[-1] < 1
        for name in ("eta_seconds", "model_eta_seconds"):
            assert all(before >= after for before, after in pairwise(self.known(name))), name


def test_the_progress_of_a_whole_attempt() -> None:
    attempt = Attempt()
    attempt.run()
    attempt.assert_honest()
    stages = [fields["stage"] for fields in attempt.seen]
    assert stages[0] == "preparing"
    assert stages[-1] == "evaluating"
    etas = attempt.known("eta_seconds")
    assert len(etas) > 0.8 * len(attempt.seen)
    assert etas[-1] < 2
    assert all(
        fields["model_eta_seconds"] is None for fields in attempt.seen if fields["stage"] == "evaluating"
    )


@pytest.mark.parametrize("slow", COSTS)
def test_a_kind_of_work_that_takes_longer_than_thought(slow: str) -> None:
    attempt = Attempt()
    attempt.skew[slow] = 8.0
    attempt.run()
    attempt.assert_honest()


def test_the_time_left_starts_at_the_upper_end() -> None:
    attempt = Attempt()
    attempt.run()
    end = attempt.now
    stated = [(100 + i + 1, fields["eta_seconds"]) for i, fields in enumerate(attempt.seen)]
    at, first = next((at, eta) for at, eta in stated if eta is not None)
    assert 1.0 <= first / (end - at) < 1.6


def test_a_machine_that_becomes_slower_makes_the_time_unknown() -> None:
    attempt = Attempt()
    attempt.progress.plan(TRAINING, EVALUATION)
    attempt.work({"train": 100})
    assert attempt.seen[-1]["eta_seconds"] is not None
    stated = attempt.seen[-1]["eta_seconds"]
    attempt.pace *= 10
    attempt.work({"train": 60})
    assert attempt.seen[-1]["eta_seconds"] is None
    attempt.pace /= 10
    attempt.work({"train": 40, "image": 40})
    attempt.publish()
    attempt.work(EVALUATION)
    attempt.assert_honest()
    assert 0 < attempt.known("eta_seconds")[-1] < stated


def test_a_long_silence_does_not_stop_the_bar() -> None:
    attempt = Attempt()
    attempt.progress.plan(TRAINING, EVALUATION)
    attempt.work({"train": 40})
    before = attempt.seen[-1]["fraction"]
    attempt.wait(600)
    attempt.assert_honest()
    assert before < attempt.seen[-1]["fraction"] < before + 0.1


def test_work_of_an_earlier_attempt_takes_no_time() -> None:
    attempt = Attempt()
    attempt.progress.plan(TRAINING, EVALUATION)
    attempt.progress.work("train", 150, earlier=True)
    attempt.work({"train": 50})
    fraction, eta = (attempt.seen[-1][name] for name in ("fraction", "eta_seconds"))
    costs = {
        part: sum(COSTS[k] * n for k, n in work.items())
        for part, work in (("training", TRAINING), ("evaluation", EVALUATION))
    }
    done = 200 * COSTS["train"] / sum(costs.values())
    assert fraction == pytest.approx(done, abs=0.06)
    assert eta == pytest.approx(attempt.pace * (1 - done) * sum(costs.values()), rel=0.5)


def test_an_attempt_that_only_evaluates() -> None:
    attempt = Attempt(published=True)
    attempt.progress.enter("preparing")
    attempt.wait(3)
    attempt.progress.plan(TRAINING, EVALUATION)
    attempt.work({"decode": 20})
    attempt.work(EVALUATION)
    attempt.assert_honest()
    assert {fields["stage"] for fields in attempt.seen} == {"evaluating"}
    assert attempt.known("model_eta_seconds") == []
    assert attempt.known("eta_seconds")[-1] < 2


def test_a_skipped_part_moves_the_bar_forward() -> None:
    attempt = Attempt()
    attempt.progress.plan(TRAINING, EVALUATION)
    attempt.work({"train": 40})
    before = attempt.seen[-1]["fraction"]
    attempt.publish()
    assert attempt.seen[-1]["fraction"] > before + 0.2
    attempt.work({"image": 10})
    attempt.assert_honest()


def test_steps_and_losses_are_the_trainers() -> None:
    progress = JobProgress(published=False)
    losses = {"total": 1.0, "dva": 0.5, "scl": 0.4, "vld": 0.3}
    progress.step({"epoch": 1, "epochs": 2, "step": 3, "steps": 6, "images_per_second": 9.5, **losses})
    fields = progress.fields()
    assert (fields["epoch"], fields["step"], fields["loss"]) == (1, 3, losses)
    assert (fields["eta_seconds"], fields["model_eta_seconds"]) == (None, None)


def test_a_time_left_is_withheld_rather_than_raised() -> None:
    left = TimeLeft()
    estimates = [None, 30.0, 20.0, 24.0, 40.0, 21.0, 10.0, 40.0]
    assert [left.state(estimate) for estimate in estimates] == [None, 30, 20, 20, None, 20, 10, None]
