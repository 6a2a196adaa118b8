"""Progress reports of a training and its evaluation, and the request to cancel them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["decode", "train", "image", "prompt"]
"""Kinds of work and their units: a decoded image, an image in an optimiser step, an image or a prompt in a
forward pass."""
Work = Mapping[Kind, int]
"""Units of work by kind."""


def total(*parts: Work) -> Work:
    """Return the sum of several parts of work."""
    whole: Counter[Kind] = Counter()
    for part in parts:
        whole.update(part)
    return whole


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


class Reporter:
    """Receiver of the progress of a training. This one ignores it and never cancels."""

    def plan(self, training: Work, evaluation: Work) -> None:
        """Announce all work before any of it, also the part that an earlier attempt has done."""

    def stage(self, name: str) -> None:
        """Enter a stage: `training` or `evaluating`."""

    def step(self, progress: StepProgress) -> None:
        """Report a completed optimiser step."""

    def done(self, kind: Kind, units: int, *, earlier: bool = False) -> None:
        """Report completed work. `earlier`: a previous attempt has done it, in no time of this one."""

    def warn(self, code: str, detail: str) -> None:
        """Report a problem that does not stop the training."""

    def checkpoint(self, epoch: int) -> None:
        """Report that the state after this epoch is stored."""

    def resumed(self, epoch: int) -> None:
        """Report that the training resumes after this epoch."""

    def cancelled(self) -> bool:
        """Return True to stop the training with `Cancelled`; called before every step and micro-batch."""
        return False


class FoldReporter(Reporter):
    """A reporter for the training of a fold model, whose steps are not the model's."""

    def __init__(self, reporter: Reporter) -> None:
        self.done, self.warn, self.cancelled = reporter.done, reporter.warn, reporter.cancelled  # type: ignore[method-assign]
