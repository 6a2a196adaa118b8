"""Progress of a job: the fraction done and the time left, from the trainer's reports of completed work.

One plan covers all the work, in units of several kinds. The time of a unit is measured per kind and measured
again later, because the machine may get other work.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from core.clip.checks.estimate import TRAINING_COST
from core.store.db.tables import EVALUATING, PREPARING

COSTS = {"decode": 0.3, "train": TRAINING_COST, "image": 1.0, "prompt": 0.5}
"""Cost of one unit of each kind, in forward passes of an image, until its time is measured."""
BEFORE_PLAN = 0.05
"""Fraction for the download of the images and the loading of the backbone."""
BEFORE_PLAN_SECONDS = 5.0
AFTER_WORK = 0.01
"""Fraction for what follows the last unit of work."""
STEP = 0.02
"""Fraction towards which the bar moves without a report, ever more slowly."""
DRIFT = 1e-4
"""Least speed of the bar, per second."""
MEMORY_SECONDS = 20.0
"""Time in which a measured speed loses its weight to later ones."""
MIN_SECONDS = 2.0
"""Measured time before which no time left is stated."""
MARGIN = 0.25
"""Share that is added to the time left, at first."""
PUBLISHING_SECONDS = FINISHING_SECONDS = 0.5
WRONG = (1.5, 5.0)
"""A stated time left is wrong if the estimate exceeds it by this factor and these seconds."""


class JobProgress:
    """The field `progress` of one attempt at a job.

    `fraction` covers all the work. It never falls, and grows with every call of `fields`. The times left
    never rise: a higher estimate is withheld, and if it is much higher the time is unknown (None). Epochs,
    steps and losses are those of the model, not of the fold models. Thread-safe.

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
        self._left: list[dict[str, float]] | None = None
        """Units by kind, of the training and of the evaluation."""
        self._whole = 0.0
        """Cost of the plan."""
        self._measured: dict[str, tuple[float, float]] = {}
        """Units and seconds by kind."""
        self._reported = self._moved = clock()
        self._interval = 0.0
        """Time between the last two reports of work."""
        self._fraction = 0.0
        self._total_left, self._model_left = TimeLeft(), TimeLeft()

    def enter(self, stage: str) -> None:
        """Enter a stage. A published model is evaluated, whatever the trainer prepares."""
        with self._lock:
            if not self._published:
                self._fields["stage"] = stage

    def step(self, message: Mapping[str, Any]) -> None:
        """Take the state after an optimiser step."""
        names = ("epoch", "epochs", "step", "steps", "images_per_second")
        losses = {name: message[name] for name in ("total", "dva", "scl", "vld")}
        with self._lock:
            self._fields |= {**{name: message[name] for name in names}, "loss": losses}

    def plan(self, training: Mapping[str, float], evaluation: Mapping[str, float]) -> None:
        """Take the plan of all work, by kind."""
        with self._lock:
            self._whole = _cost(training) + _cost(evaluation)
            self._left = [{} if self._published else dict(training), dict(evaluation)]
            self._reported = self._clock()

    def work(self, kind: str, units: float, *, earlier: bool) -> None:
        """Take a report of completed work; `earlier` work took no time of this attempt."""
        with self._lock:
            now = self._clock()
            if self._left is not None:
                part = self._left[self._published]
                part[kind] = max(0.0, part.get(kind, 0.0) - units)
            if not earlier:
                self._interval = now - self._reported
                kept = max(0.0, 1 - self._interval / MEMORY_SECONDS)
                before, seconds = self._measured.get(kind, (0.0, 0.0))
                self._measured[kind] = (kept * before + units, kept * seconds + self._interval)
            self._reported = now

    def trained(self) -> None:
        """The training has ended, so the rest of its plan is void."""
        with self._lock:
            if self._left is not None:
                self._left[0] = {}
            self._reported = self._clock()

    def publish(self) -> None:
        """The model is published."""
        with self._lock:
            self._published = True
            self._fields["stage"] = EVALUATING

    def fields(self) -> dict[str, Any]:
        """Return the field `progress` at this moment."""
        with self._lock:
            now = self._clock()
            self._move(now)
            times = [None, None] if self._left is None else self._times(now)
            return {
                **self._fields,
                "fraction": round(self._fraction, 6),
                "eta_seconds": self._total_left.state(times[1]),
                "model_eta_seconds": None if self._published else self._model_left.state(times[0]),
            }

    def _move(self, now: float) -> None:
        silent, passed = now - self._reported, now - self._moved
        self._moved = now
        if self._left is None:
            done, step, seconds = 0.0, BEFORE_PLAN, BEFORE_PLAN_SECONDS
        else:
            left = sum(map(_cost, self._left)) / max(self._whole, 1e-9)
            span = 1 - BEFORE_PLAN - AFTER_WORK
            done = BEFORE_PLAN + span * (1 - left)
            step = min(STEP, span * left / 2 or AFTER_WORK / 2)
            seconds = max(0.1, step * self._whole * self._seconds_per_cost())
        target = done + step * silent / (silent + seconds)
        drifted = self._fraction + DRIFT * passed * (1 - self._fraction)
        self._fraction = max(drifted, target)

    def _times(self, now: float) -> list[float | None]:
        """Return the estimated seconds until the model and until the end; None if they can't be known yet."""
        assert self._left is not None
        measured = sum(seconds for _, seconds in self._measured.values())
        unknown = self._left[0].get("train", 0) > 0 and "train" not in self._measured
        if measured < MIN_SECONDS or unknown:
            return [None, None]
        training, evaluation = (
            sum(units * self._seconds_per_unit(kind) for kind, units in part.items()) for part in self._left
        )
        under_way = min(now - self._reported, self._interval)
        margin = 1 + MARGIN * (1 - self._fraction)
        until_model = margin * max(0.0, training - under_way) + PUBLISHING_SECONDS
        rest = evaluation if training else max(0.0, evaluation - under_way)
        until_end = margin * rest + FINISHING_SECONDS
        return [until_model, until_end if self._published else until_model + until_end]

    def _seconds_per_unit(self, kind: str) -> float:
        units, seconds = self._measured.get(kind, (0.0, 0.0))
        return seconds / units if units else COSTS[kind] * self._seconds_per_cost()

    def _seconds_per_cost(self) -> float:
        cost = sum(COSTS[kind] * units for kind, (units, _) in self._measured.items())
        seconds = sum(seconds for _, seconds in self._measured.values())
        return seconds / cost if cost else 0.01


class TimeLeft:
    """A time left that never rises, and is unknown (None) while it is wrong."""

    def __init__(self) -> None:
        self._stated: float | None = None

    def state(self, estimate: float | None) -> float | None:
        """Return the time left to state (seconds), given the present estimate."""
        if estimate is None:
            return None
        if self._stated is None or estimate < self._stated:
            self._stated = round(estimate, 1)
        factor, seconds = WRONG
        return None if estimate > max(factor * self._stated, self._stated + seconds) else self._stated


def _cost(work: Mapping[str, float]) -> float:
    return sum(COSTS[kind] * units for kind, units in work.items())
