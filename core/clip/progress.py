"""What the training tells while it runs, and how it is told to stop."""

from dataclasses import dataclass
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
        """A new stage begins: `loading`, `training`, `measuring`, `saving`."""

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
