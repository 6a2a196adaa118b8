"""Progress reports of a training, and the request to cancel it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Protocol


@dataclass(frozen=True)
class StepProgress:
    """State after one optimiser step. Losses are means over the batch; only `total` is weighted."""

    epoch: int
    epochs: int
    step: int
    steps: int
    total: float
    dva: float
    scl: float
    vld: float
    images_per_second: float


class Reporter(Protocol):
    """Receiver of the progress of a training."""

    def stage(self, name: str) -> None:
        """Enter a stage: `loading`, `training`, `cross_validating`, `evaluating` or `saving`."""

    def step(self, progress: StepProgress) -> None:
        """Report a completed optimiser step."""

    def progressed(self, share: float) -> None:
        """Report the completed share of the work, from 0 to 1, training and evaluation together."""

    def warn(self, code: str, detail: str) -> None:
        """Report a problem that does not stop the training."""

    def checkpoint(self, epoch: int) -> None:
        """Report that the state after this epoch is stored."""

    def resumed(self, epoch: int) -> None:
        """Report that the training resumes after this epoch."""

    def cancelled(self) -> bool:
        """Return True to stop the training with `Cancelled`; called before every step."""
        ...


class Silent:
    """A reporter for scripts and tests that prints nothing and never cancels."""

    def stage(self, name: str) -> None: ...

    def step(self, progress: StepProgress) -> None: ...

    def progressed(self, share: float) -> None: ...

    def warn(self, code: str, detail: str) -> None: ...

    def checkpoint(self, epoch: int) -> None: ...

    def resumed(self, epoch: int) -> None: ...

    def cancelled(self) -> bool:
        return False


class ReporterSlice:
    """A reporter for one part of the work, which maps its progress onto the whole.

    Args:
        low, high: start and end of the part as shares of the whole.
        steps: True to forward optimiser steps.
    """

    def __init__(self, reporter: Reporter, low: float, high: float, *, steps: bool = True) -> None:
        self._reporter = reporter
        self._low = low
        self._high = high
        self._steps = steps
        self.stage, self.warn, self.cancelled = reporter.stage, reporter.warn, reporter.cancelled
        self.checkpoint, self.resumed = reporter.checkpoint, reporter.resumed

    def step(self, progress: StepProgress) -> None:
        if self._steps:
            self._reporter.step(progress)

    def progressed(self, share: float) -> None:
        self._reporter.progressed(self._low + share * (self._high - self._low))


def split_progress(reporter: Reporter, costs: Sequence[float], *, steps: bool = True) -> list[ReporterSlice]:
    """Return one reporter for each consecutive part of the work, with costs in any common unit."""
    ends = [0.0, *accumulate(costs)]
    whole = ends[-1] or 1.0
    return [ReporterSlice(reporter, low / whole, high / whole, steps=steps) for low, high in pairwise(ends)]
