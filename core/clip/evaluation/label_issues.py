"""Label issues: training images whose label is probably wrong, or that mislead for another reason."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.clip.evaluation.context import EvalContext
from core.clip.evaluation.predictions import (
    Candidates,
    ClassScores,
    HeldOutPredictions,
    cosine_scores,
    preview_scores,
)
from core.clip.inference.calibration import softmax
from core.clip.inference.prototypes import PrototypeClassifier

FOLDS = 5
REPEATS = 2
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LabelIssue:
    """A training image that resembles another class than its label."""

    position: int
    """Position in the upload."""
    label: int
    suggested_label: int
    probability: float
    """Probability of the suggested class, from models that have not seen the image."""
    label_probability: float
    """Probability of the label, from the same models."""


def cross_fit_scores(
    features: Tensor,
    labels: Sequence[int],
    classifier_weights: Tensor,
    candidates: Candidates,
    seed: int,
    originals: Sequence[int] | None = None,
) -> list[ClassScores]:
    """Score each training image with prototype classifiers that were built without it.

    Returns the scores of each of 2 repeats of 5-fold cross-validation.

    Args:
        features: [N, D], of the stock model.
        labels: [N], trained classes.
        classifier_weights: [C, D], of the stock model.
        originals: as for `core.clip.data.splits.make_folds`; copies are in the fold of their original.
    """
    n = len(labels)
    copied = np.arange(n) if originals is None else np.asarray(originals)
    all_labels = torch.tensor(labels)
    generator = np.random.default_rng(seed)
    repeats = []
    for _ in range(REPEATS):
        fold = _folds(np.asarray(labels), copied, generator)
        parts, rows = [], []
        for held_out_fold in range(FOLDS):
            held_out, kept = np.flatnonzero(fold == held_out_fold), np.flatnonzero(fold != held_out_fold)
            if not len(held_out):
                continue
            rows.append(held_out)
            if len(kept):
                classifier = PrototypeClassifier(features[kept], all_labels[kept])
                parts.append(preview_scores(classifier, features[held_out], classifier_weights, candidates))
            else:  # with two images in total only the prompts are left
                parts.append(cosine_scores(features[held_out], classifier_weights, candidates))
        repeats.append(ClassScores.concatenate(parts)[np.argsort(np.concatenate(rows))])
    return repeats


def find_label_issues(
    probabilities: Sequence[Floats], labels: NDArray[np.int64], positions: NDArray[np.int64]
) -> list[LabelIssue]:
    """Return the images that every model assigns to the same other class, most confident first.

    A model assigns an image to class j if j is its most likely class and at least as likely as in the
    mean over the images labelled j (confident learning, C. Northcutt et al., JAIR 2021).

    Args:
        probabilities: [N, K] of each model, none of which has seen the image.
        labels: [N].
        positions: [N], positions in the upload.
    """
    agreed = np.ones(len(labels), dtype=bool)
    assigned: NDArray[np.int64] | None = None
    for vote in probabilities:
        best = vote.argmax(axis=1)
        thresholds = np.array(
            [vote[labels == k, k].mean() if (labels == k).any() else 1.0 for k in range(vote.shape[1])]
        )
        assigned = best if assigned is None else assigned
        agreed &= (best == assigned) & (best != labels)
        agreed &= vote[np.arange(len(labels)), best] >= thresholds[best]
    if assigned is None:
        return []
    mean = np.mean(probabilities, axis=0)
    issues = [
        LabelIssue(
            int(positions[i]),
            int(labels[i]),
            int(assigned[i]),
            float(mean[i, assigned[i]]),
            float(mean[i, labels[i]]),
        )
        for i in np.flatnonzero(agreed)
    ]
    return sorted(issues, key=lambda s: s.label_probability - s.probability)


def _folds(
    labels: NDArray[np.int64], originals: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Assign each image to a fold from 0 to 4, [N], stratified by class."""
    fold = np.zeros(len(labels), dtype=np.int64)
    distinct = originals == np.arange(len(labels))
    for label in np.unique(labels):
        indices = generator.permutation(np.flatnonzero((labels == label) & distinct))
        fold[indices] = (np.arange(len(indices)) + generator.integers(FOLDS)) % FOLDS
    return fold[originals]


def agreed_label_issues(
    context: EvalContext, previews: Sequence[ClassScores], cross_validated: HeldOutPredictions | None
) -> list[LabelIssue]:
    """Find label issues on which two votes agree: previews and fold models, or both repeats of the previews.

    Fold models vote on the images that they predicted, and on copies of these. The other images are left
    out, and so are confirmed labels.
    """
    scale, trained = context.backbone.logit_scale, context.trained
    labels, positions = np.asarray(trained.labels), np.asarray(trained.positions)
    rows = np.arange(len(labels))
    votes = [softmax(scale * scores.trained_only) for scores in previews]
    if cross_validated is not None and cross_validated.adapted is not None:
        fold_votes = np.zeros_like(votes[0])
        fold_votes[cross_validated.positions] = softmax(scale * cross_validated.adapted.trained_only)
        fold_votes = fold_votes[rows if trained.originals is None else trained.originals]
        votes = [softmax(scale * ClassScores.mean(previews).trained_only), fold_votes]
        rows = np.flatnonzero(fold_votes.any(axis=1))
    issues = find_label_issues([vote[rows] for vote in votes], labels[rows], positions[rows])
    return [issue for issue in issues if issue.position not in trained.confirmed]
