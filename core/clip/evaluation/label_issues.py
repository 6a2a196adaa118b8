"""Training images whose label is likely wrong, or which mislead for another reason."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.clip.evaluation.predictions import Candidates, ClassScores, plain, previewed
from core.clip.inference.prototypes import PrototypeClassifier

FOLDS = 5
REPEATS = 2
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LabelIssue:
    position: int
    """Place in the upload."""
    label: int
    looks_like: int
    probability: float
    """Of the class that it looks like, from networks that have not seen the image."""
    of_its_label: float


def cross_fitted(
    features: Tensor, labels: Sequence[int], head: Tensor, candidates: Candidates, seed: int
) -> ClassScores:
    """What previews make of each training image from which it was kept out: 5 folds, twice, their mean.

    Args:
        features: [N, D], of the stock network.
        labels: [N], trained classes.
        head: [C, D], of the stock network.
    """
    n = len(labels)
    of = torch.tensor(labels)
    generator = np.random.default_rng(seed)
    alone, among = np.zeros((n, candidates.trained)), np.zeros((n, len(candidates.names)))
    for _ in range(REPEATS):
        fold = _folds(np.asarray(labels), generator)
        for out in range(FOLDS):
            asked, kept = np.flatnonzero(fold == out), np.flatnonzero(fold != out)
            if not len(asked):
                continue
            if len(kept):
                answers = previewed(
                    PrototypeClassifier(features[kept], of[kept]), features[asked], head, candidates
                )
            else:  # two images in all: nothing but the names is left
                answers = plain(features[asked], head, candidates)
            alone[asked] += answers.alone / REPEATS
            among[asked] += answers.among / REPEATS
    return ClassScores(alone, among)


def find_label_issues(
    probabilities: Sequence[Floats], labels: NDArray[np.int64], positions: NDArray[np.int64]
) -> list[LabelIssue]:
    """Images that every judge takes for the same other class, the surest first.

    A judge takes an image for class j if j is the most likely and at least as likely as for the mean
    image that is labelled j (confident learning, C. Northcutt et al., JAIR 2021).

    Args:
        probabilities: of each judge [N, K], from networks that have not seen the image.
        labels: [N].
        positions: [N], places in the upload.
    """
    agreed = np.ones(len(labels), dtype=bool)
    taken_for: NDArray[np.int64] | None = None
    for of_judge in probabilities:
        best = of_judge.argmax(axis=1)
        usual = np.array(
            [
                of_judge[labels == k, k].mean() if (labels == k).any() else 1.0
                for k in range(of_judge.shape[1])
            ]
        )
        taken_for = best if taken_for is None else taken_for
        agreed &= (best == taken_for) & (best != labels)
        agreed &= of_judge[np.arange(len(labels)), best] >= usual[best]
    if taken_for is None:
        return []
    mean = np.mean(probabilities, axis=0)
    found = [
        LabelIssue(
            int(positions[i]),
            int(labels[i]),
            int(taken_for[i]),
            float(mean[i, taken_for[i]]),
            float(mean[i, labels[i]]),
        )
        for i in np.flatnonzero(agreed)
    ]
    return sorted(found, key=lambda s: s.of_its_label - s.probability)


def _folds(labels: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """[N], a fold from 0 to 4 each, every class shared out evenly."""
    fold = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        places = generator.permutation(np.flatnonzero(labels == label))
        fold[places] = (np.arange(len(places)) + generator.integers(FOLDS)) % FOLDS
    return fold
