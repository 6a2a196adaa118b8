"""What the training tells while it runs, and how it is told to stop."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
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


class Reporter(Protocol):
    def stage(self, name: str) -> None:
        """A new stage begins: `loading`, `training`, `cross_validating`, `evaluating`, `saving`."""

    def step(self, progress: StepProgress) -> None:
        """An optimiser step is done."""

    def progressed(self, share: float) -> None:
        """So much of the work at hand is done, from 0 to 1, steps and what is only looked at together."""

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

    def progressed(self, share: float) -> None: ...

    def warn(self, code: str, detail: str) -> None: ...

    def checkpoint(self, epoch: int) -> None: ...

    def resumed(self, epoch: int) -> None: ...

    def cancelled(self) -> bool:
        return False


class ReporterSlice:
    """Passes on what is said of one part of the work: its progress as that of the whole.

    Args:
        low, high: where the part begins and ends in the whole.
        steps: whether its optimiser steps are passed on too.
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


def split_progress(
    reporter: Reporter, efforts: Sequence[float], *, steps: bool = True
) -> list[ReporterSlice]:
    """Reporters of work that is done in this order; the efforts are in any one unit."""
    ends = [0.0, *accumulate(efforts)]
    whole = ends[-1] or 1.0
    return [ReporterSlice(reporter, low / whole, high / whole, steps=steps) for low, high in pairwise(ends)]
