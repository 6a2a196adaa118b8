"""Progress reports of a training and its evaluation, and the request to cancel them."""

from dataclasses import dataclass

FOLD_TRAINING = 0.8
"""Fraction of a fold model's work that is its training. The rest is its predictions."""


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

    def plan(self, training: float, evaluation: float) -> None:
        """Announce the work of training and evaluation, as `core.clip.checks.estimate.expected_work`."""

    def stage(self, name: str) -> None:
        """Enter a stage: `training` or `evaluating`."""

    def step(self, progress: StepProgress) -> None:
        """Report a completed optimiser step."""

    def evaluated(self, share: float) -> None:
        """Report the finished share of the evaluation, from 0 to 1."""

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
    """Reporter for a fold model. Its training and predictions are a part of the evaluation."""

    def __init__(self, reporter: Reporter, number: int, folds: int) -> None:
        self.warn, self.cancelled = reporter.warn, reporter.cancelled  # type: ignore[method-assign]
        self._reporter, self._number, self._folds = reporter, number, folds

    def step(self, progress: StepProgress) -> None:
        self._report(FOLD_TRAINING * progress.step / progress.steps)

    def evaluated(self, share: float) -> None:
        self._report(FOLD_TRAINING + (1 - FOLD_TRAINING) * share)

    def _report(self, share: float) -> None:
        self._reporter.evaluated((self._number + share) / self._folds)
