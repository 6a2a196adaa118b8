"""Progress reports of a training and its evaluation, and the request to cancel them."""

from dataclasses import dataclass

from clipcite.types.jobs import Phase


@dataclass(frozen=True)
class StepProgress:
    """State after one optimiser step."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: dict[str, float]
    """Losses by name, means over the batch. `total` is their weighted sum."""
    images_per_second: float


class Reporter:
    """Receiver of a training's progress. This class ignores the progress and never cancels."""

    def phase(self, name: Phase) -> None:
        """Enter a phase of the job."""

    def step(self, progress: StepProgress) -> None:
        """Report a completed optimiser step."""

    def advance(self, share: float) -> None:
        """Report the finished share of the phase, from 0 to 1. `step` does so, too."""

    def warn(self, code: str, detail: str) -> None:
        """Report a problem that does not stop the training."""

    def checkpoint(self, epoch: int) -> None:
        """Report that the state after this epoch is stored."""

    def resumed(self, epoch: int) -> None:
        """Report that the training resumes after this epoch."""

    def cancelled(self) -> bool:
        """Return True to stop the training with `Cancelled`. Called before every step and micro-batch."""
        return False


class FoldReporter(Reporter):
    """Reporter for a fold model. Its training and predictions are a share of one phase.

    Args:
        before: finished share of the phase.
        training, predictions: shares of this fold model.
    """

    def __init__(self, reporter: Reporter, before: float, training: float, predictions: float) -> None:
        self.warn, self.cancelled = reporter.warn, reporter.cancelled  # type: ignore[method-assign]
        self._advance = reporter.advance
        self._before, self._training, self._predictions = before, training, predictions

    def step(self, progress: StepProgress) -> None:
        self._advance(self._before + self._training * progress.step / progress.steps)

    def advance(self, share: float) -> None:
        self._advance(self._before + self._training + self._predictions * share)
