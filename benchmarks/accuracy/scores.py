"""What a method answered to every test image, kept so that every measure can be made later."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Answers:
    """For N images the best name of either kind and how much it looked like it, which decides
    every measure of this benchmark: what is answered among the names of one kind, and among all
    names whatever is taken off the scores of the trained ones."""

    truth: NDArray[np.int64]
    """[N], labels."""
    trained: NDArray[np.int64]
    """The labels that were trained; every other label is a new name."""
    best_trained: NDArray[np.int64]
    """[N], the label of the best trained name; -1 where there is none."""
    trained_score: NDArray[np.float32]
    """[N], its score in units of the cosine; -inf where there is none."""
    best_new: NDArray[np.int64]
    new_score: NDArray[np.float32]

    @classmethod
    def of(
        cls, similarities: NDArray[np.float32], truth: NDArray[np.int64], trained: Sequence[int]
    ) -> "Answers":
        """From the scores of all names, [N, C]."""
        new = [label for label in range(similarities.shape[1]) if label not in set(trained)]
        best_trained, trained_score = _best(similarities, trained)
        best_new, new_score = _best(similarities, new)
        return cls(truth, np.array(trained), best_trained, trained_score, best_new, new_score)

    @property
    def of_trained(self) -> Bools:
        """[N], which images are of a trained class."""
        return np.isin(self.truth, self.trained)

    def right_among_its_kind(self) -> Bools:
        """[N]: only the trained names may be answered for a trained image, the new for a new one."""
        answered = np.where(self.of_trained, self.best_trained, self.best_new)
        return np.equal(answered, self.truth)

    def right_among_all(self, gamma: float = 0.0) -> Bools:
        """[N]: any name may be answered, after `gamma` is taken off the scores of the trained ones."""
        prefers_trained = self.trained_score - gamma > self.new_score
        return np.equal(np.where(prefers_trained, self.best_trained, self.best_new), self.truth)

    def openworld_auc(self) -> float:
        """OpenworldAUC (arXiv 2505.05180), which no γ changes: the share of pairs of a trained
        and a new image in which both are right among the names of their kind *and* the trained
        one looks more like "trained" (its best trained score minus its best new one)."""
        looks_trained = self.trained_score - self.new_score
        right, of_trained = self.right_among_its_kind(), self.of_trained
        of_new = np.sort(looks_trained[right & ~of_trained])
        good_pairs = np.searchsorted(of_new, looks_trained[right & of_trained], side="left").sum()
        return float(good_pairs / (of_trained.sum() * (~of_trained).sum()))


@dataclass(frozen=True)
class Scores:
    """The scores of N test images with C names."""

    similarities: NDArray[np.float32]
    """[N, C], in units of the cosine; -inf for names that the method can't answer."""
    truth: NDArray[np.int64]
    """[N], labels."""
    trained: tuple[int, ...]
    """Labels of the trained classes."""
    class_names: tuple[str, ...]

    def answers(self) -> Answers:
        return Answers.of(self.similarities, self.truth, self.trained)


def _best(
    similarities: NDArray[np.float32], labels: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Which of the labels scores highest, and how high, [N] each."""
    count = len(similarities)
    if not labels:
        return np.full(count, -1), np.full(count, -np.inf, dtype=np.float32)
    columns = np.asarray(labels)
    scores = similarities[:, columns]
    return columns[scores.argmax(axis=1)], scores.max(axis=1)
