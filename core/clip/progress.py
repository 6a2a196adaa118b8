"""What the training tells while it runs, and how it is told to stop."""

from dataclasses import dataclass, replace
from typing import Protocol


@dataclass(frozen=True)
class StepProgress:
    """State after one optimiser step. Losses are means over the batch, unweighted but `total`."""

    epoch: int
    epochs: int
    step: int
    steps: int
    total: float
    dva: float
    scl: float
    vld: float
    images_per_second: float
    eta_seconds: float


class Reporter(Protocol):
    def stage(self, name: str) -> None:
        """A new stage begins: `loading`, `training`, `checking`, `measuring`, `saving`."""

    def step(self, progress: StepProgress) -> None:
        """An optimiser step is done."""

    def warn(self, code: str, detail: str) -> None:
        """Something that the person should know of and that does not stop the training."""

    def checkpoint(self, epoch: int) -> None:
        """The state after this epoch is stored: what is cut off later goes on from it."""

    def resumed(self, epoch: int) -> None:
        """The training does not begin at the beginning but after this epoch."""

    def cancelled(self) -> bool:
        """Asked before every step: True stops the training with `Cancelled`."""
        ...


class Silent:
    """A reporter for scripts and tests: says nothing, never cancels."""

    def stage(self, name: str) -> None: ...

    def step(self, progress: StepProgress) -> None: ...

    def warn(self, code: str, detail: str) -> None: ...

    def checkpoint(self, epoch: int) -> None: ...

    def resumed(self, epoch: int) -> None: ...

    def cancelled(self) -> bool:
        return False


class Share:
    """Passes on what one of several trainings in a row says; its steps count in the steps of all.

    Args:
        before: steps of the trainings before it.
        total: steps of all of them.
    """

    def __init__(self, reporter: Reporter, *, before: int, total: int) -> None:
        self._reporter = reporter
        self._before = before
        self._total = total
        self._seconds_a_step = 0.0
        self.stage, self.warn, self.cancelled = reporter.stage, reporter.warn, reporter.cancelled
        self.checkpoint, self.resumed = reporter.checkpoint, reporter.resumed

    def step(self, progress: StepProgress) -> None:
        left = progress.steps - progress.step
        if left:
            self._seconds_a_step = progress.eta_seconds / left
        step = self._before + progress.step
        eta = self._seconds_a_step * (self._total - step)
        self._reporter.step(replace(progress, step=step, steps=self._total, eta_seconds=eta))
