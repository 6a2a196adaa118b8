"""Label issues: training images that are possibly mislabelled (wrong labels) or misleading."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.clip.evaluation.context import EvalContext
from core.clip.evaluation.predictions import Floats, HeldOutPredictions
from core.clip.inference.calibration import softmax
from core.clip.inference.prototypes import PrototypeClassifier

FOLDS = 5
REPEATS = 2
MIN_VOTE_ACCURACY = 0.8
"""Minimum accuracy of the second vote. Below it, most label issues are false (benchmarks/pages/trust.md)."""


@dataclass(frozen=True)
class LabelIssue:
    """A training image that resembles a class other than its label."""

    position: int
    """Position in the upload."""
    label: int
    suggested_label: int
    probability: float
    """Probability of the suggested class, from models that have not seen the image."""
    label_probability: float
    """Probability of the label, from the same models."""


def cross_fit_scores(
    features: Tensor, labels: Sequence[int], photos: NDArray[np.int64], classifier_weights: Tensor, seed: int
) -> list[Floats]:
    """Score each training image with prototype classifiers that were built without it.

    Return the scores [N, K] of each of 2 repeats of 5-fold cross-validation.

    Args:
        features: [N, D], of the stock model.
        labels: [N], trained classes.
        photos: [N], number of each image's photo. Images of a burst are left out together.
        classifier_weights: [K, D], of the stock model.
    """
    all_labels, classes = torch.tensor(labels), range(len(classifier_weights))
    generator = np.random.default_rng(seed)
    repeats = []
    for _ in range(REPEATS):
        fold = _folds(np.asarray(labels), photos, generator)
        scores = np.zeros((len(labels), len(classes)))
        for number in np.unique(fold):
            held_out, kept = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
            if len(kept):
                rule = PrototypeClassifier(features[kept], all_labels[kept]).rule(classifier_weights, classes)
                scores[held_out] = rule.scores(features[held_out]).double().numpy()
            else:  # with two images in total only the prompts are left
                scores[held_out] = (features[held_out] @ classifier_weights.T).double().numpy()
        repeats.append(scores)
    return repeats


def find_label_issues(
    votes: tuple[Floats, Floats], labels: NDArray[np.int64], positions: NDArray[np.int64]
) -> list[LabelIssue]:
    """Return the images that both models assign to the same other class, most confident first.

    A model assigns an image to class j if j is its most likely class and at least as likely as on
    average over the images labelled j (confident learning, C. Northcutt et al., JAIR 2021).

    Args:
        votes: probabilities [N, K] of each model. The models have not seen the image.
        labels: [N].
        positions: [N], positions in the upload.
    """
    assigned = votes[0].argmax(axis=1)
    agreed = (votes[1].argmax(axis=1) == assigned) & (assigned != labels)
    for vote in votes:
        thresholds = np.array(
            [vote[labels == k, k].mean() if (labels == k).any() else 1.0 for k in range(vote.shape[1])]
        )
        agreed &= vote[np.arange(len(labels)), assigned] >= thresholds[assigned]
    mean = np.mean(votes, axis=0)
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
    labels: NDArray[np.int64], photos: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Assign each photo to a fold from 0 to 4, stratified by class. Return the folds of the images, [N]."""
    fold = np.zeros(photos.max() + 1, dtype=np.int64)
    for label in np.unique(labels):
        own = generator.permutation(np.unique(photos[labels == label]))
        fold[own] = (np.arange(len(own)) + generator.integers(FOLDS)) % FOLDS
    return fold[photos]


def agreed_label_issues(
    context: EvalContext, classifier_weights: Tensor, cross_validated: HeldOutPredictions | None
) -> tuple[list[LabelIssue], float]:
    """Find label issues on which two votes agree: previews and fold models, or both repeats of the previews.

    Fold models vote on the images that they predicted. Other images and confirmed labels are left out.

    Returns:
        The label issues, none below MIN_VOTE_ACCURACY, and the accuracy of the second vote.

    Args:
        classifier_weights: [K, D], of the stock model.
    """
    scale, trained = context.backbone.logit_scale, context.trained
    labels, positions = np.asarray(trained.labels), np.asarray(trained.positions)
    previews = cross_fit_scores(
        trained.stock_features, trained.labels, trained.photos, classifier_weights, context.config.seed
    )
    one, other = (softmax(scale * scores) for scores in previews)
    if cross_validated is not None:
        rows = np.searchsorted(positions, cross_validated.positions)
        labels, positions = labels[rows], positions[rows]
        one = softmax(scale * np.mean(previews, axis=0))[rows]
        other = softmax(scale * cross_validated.adapted.trained_only)
    accuracy = float((other.argmax(axis=1) == labels).mean())
    if accuracy < MIN_VOTE_ACCURACY:
        return [], accuracy
    issues = find_label_issues((one, other), labels, positions)
    confirmed = {
        position
        for position, image in zip(trained.positions, trained.images, strict=True)
        if image.label_confirmed
    }
    return [issue for issue in issues if issue.position not in confirmed], accuracy


def too_early(accuracy: float) -> str:
    """Return why no label issues are listed: at this accuracy of the vote, most would be false."""
    return (
        f"Too early to find wrong labels: models without them recognise only {100 * accuracy:.0f}% of the "
        f"training images. Below {100 * MIN_VOTE_ACCURACY:.0f}%, most suggestions are false. Add images "
        "first."
    )
