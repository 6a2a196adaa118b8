"""Progress of a job: the fraction done and the time left, from the trainer's steps and predictions."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from core.store.db.tables import EVALUATING, PREPARING

BEFORE, AFTER = 0.05, 0.01
"""Fractions for what precedes and what follows training and evaluation."""
MIN_SECONDS = 2.0
"""Measured time before which no time left is stated."""


class JobProgress:
    """The field `progress` of one attempt at a job.

    `fraction` covers training and evaluation, and never falls. Epochs, steps and losses are those of the
    model, not of the fold models. Thread-safe.

    Args:
        published: the model exists, and this attempt only evaluates it.
    """

    def __init__(self, *, published: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._published = published
        self._fields: dict[str, Any] = {
            **{"stage": EVALUATING if published else PREPARING},
            **{"epoch": 0, "epochs": None, "step": 0, "steps": None, "images_per_second": None, "loss": None},
        }
        self._training = self._evaluation = 0.0
        """Expected work (`core.clip.checks.estimate.expected_work`)."""
        self._first: tuple[float, float] | None = None
        """Time and finished work of the first report since the beginning of training or evaluation."""
        self._last = clock(), 0.0
        """Those of the last report."""
        self._pace: float | None = None
        """Measured seconds per unit of work."""
        self._fraction = 0.0

    def enter(self, stage: str) -> None:
        """Enter a stage. A published model is evaluated, whatever the trainer prepares."""
        with self._lock:
            if not self._published:
                self._fields["stage"] = stage

    def plan(self, training: float, evaluation: float) -> None:
        """Take the expected work."""
        with self._lock:
            self._training, self._evaluation = 0.0 if self._published else training, evaluation

    def step(self, message: Mapping[str, Any]) -> None:
        """Take the state after an optimiser step."""
        names = ("epoch", "epochs", "step", "steps", "images_per_second")
        losses = {name: message[name] for name in ("total", "dva", "scl", "vld")}
        with self._lock:
            self._fields |= {**{name: message[name] for name in names}, "loss": losses}
            self._report(self._training * message["step"] / message["steps"])

    def publish(self) -> None:
        """The model is published, and its evaluation begins."""
        with self._lock:
            self._published = True
            self._fields["stage"] = EVALUATING
            self._first = None
            self._report(self._training)

    def evaluated(self, share: float) -> None:
        """Take the finished share of the evaluation."""
        with self._lock:
            self._report(self._training + self._evaluation * share)

    def fields(self) -> dict[str, Any]:
        """Return the field `progress` at this moment."""
        with self._lock:
            total = self._training + self._evaluation
            at, done = self._last
            if total > 0:
                self._fraction = max(self._fraction, BEFORE + (1 - BEFORE - AFTER) * done / total)
            until_model = until_end = None
            if self._pace is not None:
                passed = self._clock() - at
                until_model, until_end = (
                    round(max(0.0, self._pace * (work - done) - passed), 1)
                    for work in (self._training, total)
                )
            return {
                **self._fields,
                "fraction": round(self._fraction, 6),
                "eta_seconds": until_end,
                "model_eta_seconds": None if self._published else until_model,
            }

    def _report(self, done: float) -> None:
        now = self._clock()
        self._first, self._last = self._first or (now, done), (now, done)
        since, before = self._first
        if now - since >= MIN_SECONDS and done > before:
            self._pace = (now - since) / (done - before)
