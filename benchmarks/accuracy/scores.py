"""Scores of a method on test images, sufficient for all measures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class BestScores:
    """The best trained class and the best new class of N images, with their scores.

    They determine each measure: predictions among classes of one kind, and among all classes after any
    constant is subtracted from the trained ones.
    """

    truth: NDArray[np.int64]
    """[N], labels."""
    trained: NDArray[np.int64]
    """Labels of the trained classes; all others are new."""
    best_trained: NDArray[np.int64]
    """[N], label of the best trained class; -1 if there is none."""
    trained_score: NDArray[np.float32]
    """[N], score of that class in units of the cosine; -inf if there is none."""
    best_new: NDArray[np.int64]
    new_score: NDArray[np.float32]
    within_kind: NDArray[np.int64]
    """[N], label of the best class of the image's own kind, trained or new."""

    @classmethod
    def from_scores(
        cls,
        similarities: NDArray[np.float32],
        truth: NDArray[np.int64],
        trained: Sequence[int],
        of_trained: NDArray[np.float32] | None = None,
        of_new: NDArray[np.float32] | None = None,
    ) -> "BestScores":
        """Create from the scores of all classes, [N, C].

        Args:
            of_trained: [N, T], scores of a request for the trained classes alone, if its rule is another.
            of_new: [N, C - T], scores of a request for the new classes alone.
        """
        new = new_labels(similarities.shape[1], trained)
        best_trained, trained_score = _best(similarities, trained)
        best_new, new_score = _best(similarities, new)
        alone_trained = best_trained if of_trained is None else _best_of(of_trained, trained)
        alone_new = best_new if of_new is None else _best_of(of_new, new)
        labels = np.array(trained)
        within_kind = of_own_kind(truth, labels, alone_trained, alone_new)
        return cls(truth, labels, best_trained, trained_score, best_new, new_score, within_kind)

    @property
    def is_trained(self) -> Bools:
        """Images of a trained class, [N]."""
        return np.isin(self.truth, self.trained)

    def correct_within_kind(self) -> Bools:
        """Return which predictions are correct, [N], with only classes of the same kind as candidates."""
        return np.equal(self.within_kind, self.truth)

    def correct_among_all(self) -> Bools:
        """Return which predictions are correct, [N], with all classes as candidates."""
        prefers_trained = self.trained_score > self.new_score
        return np.equal(np.where(prefers_trained, self.best_trained, self.best_new), self.truth)

    def open_world(self) -> dict[str, float]:
        """Return shares of all pairs of a trained and a new image, which are independent of a constant γ.

        AUROC: the trained image leads more (best trained less best new score). Opt-a: also, its class is
        predicted among the trained classes. Opt-g: also, the new image's class is predicted
        among the new classes.
        OwAUC: both (OpenworldAUC, arXiv 2505.05180).
        """
        lead = self.trained_score - self.new_score
        correct, is_trained = self.correct_within_kind(), self.is_trained
        pairs = is_trained.sum() * (~is_trained).sum()

        def share(of_trained: Bools, of_new: Bools) -> float:
            below = np.searchsorted(np.sort(lead[of_new]), lead[of_trained], side="left").sum()
            return float(below / pairs)

        return {
            "AUROC": share(is_trained, ~is_trained),
            "Opt-a": share(is_trained & correct, ~is_trained),
            "Opt-g": share(is_trained, ~is_trained & correct),
            "OwAUC": share(is_trained & correct, ~is_trained & correct),
        }


@dataclass(frozen=True)
class Scores:
    """Scores of N test images with C classes."""

    similarities: NDArray[np.float32]
    """[N, C], in units of the cosine; -inf for classes that the method cannot predict."""
    truth: NDArray[np.int64]
    """[N], labels."""
    trained: tuple[int, ...]
    """Labels of the trained classes."""
    class_names: tuple[str, ...]
    of_trained: NDArray[np.float32] | None = None
    """[N, T], scores of a request for the trained classes alone, if they are not the columns above."""
    of_new: NDArray[np.float32] | None = None

    def best(self) -> BestScores:
        return BestScores.from_scores(
            self.similarities, self.truth, self.trained, self.of_trained, self.of_new
        )


def of_own_kind(truth: Labels, trained: Labels, best_trained: Labels, best_new: Labels) -> Labels:
    """Return the best class of each image among the classes of its own kind, [N]."""
    return np.where(np.isin(truth, trained), best_trained, best_new)


def new_labels(classes: int, trained: Sequence[int]) -> list[int]:
    """Return the labels that are not trained, ascending."""
    return [label for label in range(classes) if label not in set(trained)]


def _best(
    similarities: NDArray[np.float32], labels: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the label with the highest score, and the score, [N] each."""
    count = len(similarities)
    if not labels:
        return np.full(count, -1), np.full(count, -np.inf, dtype=np.float32)
    scores = similarities[:, np.asarray(labels)]
    return _best_of(scores, labels), scores.max(axis=1)


def _best_of(scores: NDArray[np.float32], labels: Sequence[int]) -> NDArray[np.int64]:
    """Return the label of the highest column, [N], for scores [N, L] of L labels."""
    best: NDArray[np.int64] = np.asarray(labels)[scores.argmax(axis=1)]
    return best
