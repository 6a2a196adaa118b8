"""Progress of a job: the fraction done and the time left, from the trainer's messages."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from clipcite.types.jobs import Progress
from core.store.db.tables import EVALUATING, PREPARING

BEFORE, AFTER = 0.05, 0.01
"""Fractions of the progress before and after training and evaluation."""
MIN_SECONDS = 2.0
"""Minimum measured time before the time left is reported (seconds)."""
WRONG = (1.5, 5.0)
"""A reported time left is wrong if the new estimate exceeds it by both this factor and these seconds."""


class JobProgress:
    """Progress of one attempt at a job.

    `fraction` covers training and evaluation, and never falls. Times left never rise: a higher estimate is
    not reported, and if it is much higher, the time is unknown (None). Epochs, steps and losses describe
    the model, not of the fold models. Thread-safe.

    Args:
        published: True if the model exists and this attempt only evaluates it.
    """

    def __init__(self, *, published: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._published = published
        self._progress = Progress(stage=EVALUATING if published else PREPARING, epoch=0, step=0, fraction=0)
        self._training = self._evaluation = 0.0
        """Expected work (`core.clip.checks.estimate.expected_work`)."""
        self._first: tuple[float, float] | None = None
        """Time and finished work at the first report of the training or the evaluation."""
        self._last = clock(), 0.0
        """Time and finished work at the last report."""
        self._pace: float | None = None
        """Measured seconds per unit of work."""
        self._fraction = 0.0
        self._end_left, self._model_left = TimeLeft(), TimeLeft()

    def enter(self, stage: str) -> None:
        """Enter a stage. With a published model, every stage counts as evaluation."""
        with self._lock:
            if not self._published:
                self._progress = self._progress.model_copy(update={"stage": stage})

    def plan(self, training: float, evaluation: float) -> None:
        """Store the expected work."""
        with self._lock:
            self._training, self._evaluation = 0.0 if self._published else training, evaluation

    def step(self, message: Mapping[str, Any]) -> None:
        """Store the state after an optimiser step."""
        names = ("epoch", "epochs", "step", "steps", "images_per_second", "loss")
        with self._lock:
            self._progress = self._progress.model_copy(update={name: message[name] for name in names})
            self._report(self._training * message["step"] / message["steps"])

    def publish(self) -> None:
        """Start the evaluation of the published model."""
        with self._lock:
            self._published = True
            self._progress = self._progress.model_copy(update={"stage": EVALUATING})
            self._first = None
            self._report(self._training)

    def evaluated(self, share: float) -> None:
        """Store the finished fraction of the evaluation."""
        with self._lock:
            self._report(self._training + self._evaluation * share)

    def fields(self) -> dict[str, Any]:
        """Return the current progress, as the job's row keeps it."""
        with self._lock:
            total = self._training + self._evaluation
            at, done = self._last
            if total > 0:
                self._fraction = max(self._fraction, BEFORE + (1 - BEFORE - AFTER) * done / total)
            until_model = until_end = None
            if self._pace is not None:
                passed = self._clock() - at
                until_model, until_end = (
                    max(0.0, self._pace * (work - done) - passed) for work in (self._training, total)
                )
            self._progress.fraction = round(self._fraction, 6)
            self._progress.eta_seconds = self._end_left.state(until_end)
            self._progress.model_eta_seconds = (
                None if self._published else self._model_left.state(until_model)
            )
            return self._progress.model_dump()

    def _report(self, done: float) -> None:
        now = self._clock()
        self._first, self._last = self._first or (now, done), (now, done)
        since, before = self._first
        if now - since >= MIN_SECONDS and done > before:
            self._pace = (now - since) / (done - before)


class TimeLeft:
    """A time left that never rises, and is unknown (None) while it is wrong."""

    def __init__(self) -> None:
        self._stated: float | None = None

    def state(self, estimate: float | None) -> float | None:
        """Return the time left to report (seconds), given the current estimate."""
        if estimate is None:
            return None
        if self._stated is None or estimate < self._stated:
            self._stated = round(estimate, 1)
        factor, seconds = WRONG
        return None if estimate > max(factor * self._stated, self._stated + seconds) else self._stated
