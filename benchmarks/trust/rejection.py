"""What pictures of none of the names could be told by: scores [N], larger for those that look like a name."""

import numpy as np
import torch
from numpy.typing import NDArray

from core.clip.balance import NEW, NEW_NAMES_BALANCE, name_offsets
from core.clip.confidence import softmax

Floats = NDArray[np.float64]
SHRINKAGE = 0.3
"""Share of the identity in the covariance of few shots."""
NEIGHBOURS = 3


def rejections(
    pictures: Floats, trained: Floats, others: Floats, shots: Floats, labels: NDArray[np.int64], scale: float
) -> dict[str, Floats]:
    """By rule.

    Args:
        pictures: [N, D], normalised, as all that follow.
        trained: [K, D], the trained names.
        others: [O, D], of ImageNet's names some that have nothing to do with them.
        shots: [S, D], and their labels [S].
    """
    k = len(trained)
    alone = pictures @ trained.T - _offsets(shots, labels, trained, k)
    names = np.concatenate([trained, others])
    among = pictures @ names.T - _offsets(shots, labels, names, k)
    probabilities = softmax(scale * alone)
    best = among[:, :k].max(axis=1)
    means = np.stack([shots[labels == j].mean(axis=0) for j in range(k)])
    directions = means / np.linalg.norm(means, axis=1, keepdims=True)
    nearest = np.sort(pictures @ shots.T, axis=1)[:, -NEIGHBOURS:]
    return {
        "cosine": alone.max(axis=1),
        "probability": probabilities.max(axis=1),
        "entropy": (probabilities * np.log(probabilities + 1e-12)).sum(axis=1),
        "lead over the next name": np.diff(np.sort(alone, axis=1)[:, -2:], axis=1)[:, 0],
        "energy": np.log(np.exp(scale * alone).sum(axis=1)),
        "lead over the mean of 50 other names": best - among[:, k:].mean(axis=1),
        "probability among 50 other names": softmax(scale * among)[:, :k].sum(axis=1),
        "nearest 3 shots": nearest.mean(axis=1),
        "nearest class mean": (pictures @ directions.T).max(axis=1),
        "Mahalanobis": -_distances(pictures, means, shots - means[labels]).min(axis=1),
    }


def let_through(score: Floats, listed: NDArray[np.int64], unlisted: NDArray[np.int64], kept: float) -> float:
    """Share of the unlisted ones at the limit that keeps this share of the listed ones."""
    return float((score[unlisted] >= np.quantile(score[listed], 1 - kept)).mean())


def _offsets(shots: Floats, labels: NDArray[np.int64], head: Floats, trained: int) -> Floats:
    classes = [*range(trained), *[NEW] * (len(head) - trained)]
    features, names = (torch.from_numpy(np.ascontiguousarray(x)) for x in (shots, head))
    offsets: Floats = name_offsets(
        features, torch.from_numpy(labels), names, classes, NEW_NAMES_BALANCE
    ).numpy()
    return offsets


def _distances(pictures: Floats, means: Floats, residuals: Floats) -> Floats:
    """[N, K], squared, by the shrunk covariance of the shots around their class means."""
    covariance = residuals.T @ residuals / len(residuals)
    dimensions = len(covariance)
    even = np.trace(covariance) / dimensions * np.eye(dimensions)
    precision = np.linalg.inv((1 - SHRINKAGE) * covariance + SHRINKAGE * even)
    apart = pictures[:, None] - means[None]
    distances: Floats = np.einsum("nkd,de,nke->nk", apart, precision, apart)
    return distances
