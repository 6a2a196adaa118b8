"""Progress of a job: the fraction done and the remaining time (ETA), from the trainer's messages."""

import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from clipcite.types.jobs import DOING, STAGE_OF, Phase, Progress
from core.clip.training.progress import StepProgress
from worker.paces import Paces

MEMORY_SECONDS = 20.0
"""Time after which the measured speed of a job counts for little (seconds)."""
PRIOR_SECONDS = 4.0
"""Weight of the expected speed, if it was measured on this machine (seconds)."""
MIN_SECONDS = 2.0
"""Minimum measured time before the time left is reported, if nothing was measured before (seconds)."""
SAMPLE_SECONDS = 0.5
"""Minimum time of one measurement (seconds)."""
OVERRUN = 0.25
"""Time still expected for a phase that has overrun, as a fraction of the time since its last report."""
LATER = (1.15, 3.0)
"""A stated time left is replaced by a higher one if that exceeds it by both this factor and these seconds."""
LAST = 0.99
"""Highest fraction reported before the end."""
ALIKE: tuple[Phase, ...] = ("steps", "folds")
"""Phases of the same work. Without earlier jobs, only these are measured."""
REPORTING: tuple[Phase, ...] = ("steps", "folds", "tests")
"""Phases that report their finished share."""
COMPUTED: tuple[Phase, ...] = ("features", "steps", "support", "folds", "tests")


class JobProgress:
    """Progress of one attempt at a job.

    The plan has the expected seconds of each phase, from earlier jobs on this machine. The time left is what
    remains of them, at the speed of this job. `fraction` never falls. Epochs, steps and losses describe the
    model, not the fold models. Thread-safe.

    Args:
        published: True if the model exists and this attempt only evaluates it.
        clock: current time, of the same clock as the trainer's messages (seconds).
    """

    def __init__(self, *, published: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._published = published
        self._progress = Progress(
            stage="evaluating" if published else "preparing", epoch=0, step=0, fraction=0
        )
        self._expected: dict[Phase, float] = {}
        """Expected seconds of each phase of this attempt, in their order."""
        self._work: Mapping[Phase, float] = {}
        self._measured: dict[Phase, float] = {}
        """Seconds that each finished phase took."""
        self._is_whole = not published
        """False if an earlier attempt did part of the steps."""
        self._slowdown = Slowdown(known=False)
        self._phase: Phase = "starting"
        self._share = 0.0
        self._entered = self._at = clock()
        """Times of the beginning of the phase and of its last report."""
        self._fraction = 0.0
        self._end_left, self._model_left = TimeLeft(), TimeLeft()
        self._describe()

    def plan(self, work: Mapping[Phase, float], paces: Paces) -> None:
        """Store the expected work (`core.clip.checks.estimate.work_by_phase`), and its seconds per unit."""
        left_out = ("steps", "support", "storing") if self._published else ()
        with self._lock:
            self._work = {phase: work[phase] for phase in DOING if phase in work and phase not in left_out}
            self._expected = {phase: amount * paces.seconds[phase] for phase, amount in self._work.items()}
            self._slowdown = Slowdown(known=paces.measured)

    def enter(self, phase: Phase, at: float | None = None) -> None:
        """Enter a phase."""
        with self._lock:
            self._enter(phase, self._clock() if at is None else at)

    def resume(self) -> None:
        """Note that an earlier attempt did part of the steps."""
        with self._lock:
            self._is_whole = False

    def step(self, step: StepProgress, at: float | None = None) -> None:
        """Store the state after an optimiser step."""
        with self._lock:
            is_first = self._progress.step == 0  # sets up kernels, or follows an earlier attempt
            self._progress = self._progress.model_copy(update=vars(step))
            self._report(step.step / step.steps, at, counts=not is_first)

    def advance(self, share: float, at: float | None = None) -> None:
        """Store the finished share of the phase."""
        with self._lock:
            self._report(share, at)

    def publish(self) -> None:
        """Note that the model is stored. The trainer has been evaluating it since storing began."""
        with self._lock:
            began = self._entered
            self._published = True
            following: Phase = next((p for p in ("folds", "tests") if p in self._expected), "report")
            self._enter(following, self._clock())
            self._entered = self._at = began

    def paces(self) -> dict[Phase, float]:
        """Return the measured seconds per unit of work. Call this when the attempt has succeeded."""
        with self._lock:
            measured = {**self._measured, self._phase: self._clock() - self._entered}
            return {
                phase: measured[phase] / work
                for phase, work in self._work.items()
                if phase in measured and (phase != "steps" or self._is_whole)
            }

    def fields(self) -> dict[str, Any]:
        """Return the current progress, as the job's row keeps it."""
        with self._lock:
            slower = self._slowdown.factor()
            passed = max(0.0, self._clock() - self._at)
            left = self._expected.get(self._phase, 0.0) * (1 - self._share)
            to_end = to_model = None
            if slower is not None and self._expected:
                now = max(left * slower - passed, OVERRUN * passed)
                later = self._later()
                to_end = now + slower * sum(self._expected[phase] for phase in later)
                if not self._published:
                    before = (p for p in later if STAGE_OF[p] != "evaluating")
                    to_model = now + slower * sum(self._expected[phase] for phase in before)
            # Phases without reports move, too, ever more slowly.
            moved = 0.0
            if left > 0 and self._phase not in REPORTING:
                moved = left * (1 - math.exp(-passed / (left * (slower or 1))))
            self._fraction = max(self._fraction, self._done(left - moved))
            self._progress.fraction = round(self._fraction, 6)
            self._progress.eta_seconds = self._end_left.state(to_end)
            self._progress.model_eta_seconds = self._model_left.state(to_model)
            return self._progress.model_dump()

    def _enter(self, phase: Phase, at: float) -> None:
        if phase == self._phase:
            return  # the worker knew before the trainer's message
        at = max(at, self._at)
        if self._slowdown.counts(self._phase) and self._phase != "steps":
            left = self._expected.get(self._phase, 0.0) * (1 - self._share)
            self._slowdown.observe(at - self._at, left)
        self._measured[self._phase] = self._measured.get(self._phase, 0.0) + at - self._entered
        self._phase, self._share = phase, 0.0
        self._entered = self._at = at
        self._describe()

    def _report(self, share: float, at: float | None, *, counts: bool = True) -> None:
        at = max(self._at, self._clock() if at is None else at)
        done = self._expected.get(self._phase, 0.0) * (share - self._share)
        if counts and self._slowdown.counts(self._phase) and done > 0:
            self._slowdown.observe(at - self._at, done)
        self._share, self._at = max(share, self._share), at

    def _describe(self) -> None:
        stage = "evaluating" if self._published else STAGE_OF[self._phase]
        self._progress = self._progress.model_copy(
            update={"stage": stage, "phase": self._phase, "doing": DOING[self._phase]}
        )

    def _later(self) -> list[Phase]:
        order = [*DOING]
        return [phase for phase in self._expected if order.index(phase) > order.index(self._phase)]

    def _done(self, left: float) -> float:
        """Return the finished fraction, given what is left of the phase (seconds)."""
        total = sum(self._expected.values())
        if total == 0:
            return 0.0
        return LAST * max(0.0, 1 - (left + sum(self._expected[phase] for phase in self._later())) / total)


class Slowdown:
    """How much slower than expected a job runs: a geometric mean, in which the last seconds count most."""

    def __init__(self, *, known: bool) -> None:
        self._known = known
        self._logarithm, self._weight = 0.0, PRIOR_SECONDS if known else 0.0
        self._actual = self._expected = 0.0
        """Seconds since the last sample."""

    def counts(self, phase: Phase) -> bool:
        """Return whether a phase measures the speed. Reading depends on photos, storing on the network."""
        return phase in (COMPUTED if self._known else ALIKE)

    def observe(self, actual: float, expected: float) -> None:
        """Note that work took `actual` instead of `expected` seconds."""
        self._actual, self._expected = self._actual + actual, self._expected + expected
        if self._actual < SAMPLE_SECONDS or self._expected <= 0:
            return
        rest = math.exp(-self._actual / MEMORY_SECONDS)
        new = math.log(self._actual / self._expected)
        weight = self._weight * rest + self._actual
        self._logarithm = (self._logarithm * self._weight * rest + new * self._actual) / weight
        self._weight, self._actual, self._expected = weight, 0.0, 0.0

    def factor(self) -> float | None:
        """Return actual by expected seconds, or None if unknown."""
        return math.exp(self._logarithm) if self._weight >= MIN_SECONDS else None


class TimeLeft:
    """A time left that rises only if it was clearly too short."""

    def __init__(self) -> None:
        self._stated: float | None = None

    def state(self, estimate: float | None) -> float | None:
        """Return the time left to report (seconds), given the current estimate."""
        factor, seconds = LATER
        stated = self._stated
        if (
            estimate is None
            or stated is None
            or not stated <= estimate <= max(factor * stated, stated + seconds)
        ):
            self._stated = estimate
        return None if self._stated is None else round(self._stated, 1)
