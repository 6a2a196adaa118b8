"""Rejection rules: scores [N] that are larger for images of a listed class."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.clip.evaluation.predictions import Candidates
from core.clip.inference.calibration import softmax
from core.clip.inference.class_offsets import NEW_CLASS, NEW_CLASS_BALANCE, class_offsets
from core.clip.inference.in_distribution import in_distribution_score
from core.clip.models.backbone import Backbone

Floats = NDArray[np.float64]
SHRINKAGE = 0.3
"""Share of the identity in the shrunk covariance."""
NEIGHBOURS = 3


def rejections(
    images: Tensor, head: Tensor, shots: Tensor, labels: Tensor, known: Candidates, backbone: Backbone
) -> tuple[dict[str, Floats], Floats]:
    """Return the scores by rule, and the cosine with the best new class minus its offset.

    Args:
        images: [N, D], normalised like all others.
        head: [C + O, D], the classes of `known` and distractor classes.
        shots: [S, D], with labels [S].
    """
    k, c, scale = known.trained, len(known.names), backbone.logit_scale
    trained, new, others = head[:k], head[k:c], head[c:]

    def ranked(names: Tensor) -> Tensor:
        """Return the scores [N, names]. The first k are trained, unless all names are new."""
        classes = (
            [*range(k), *[NEW_CLASS] * (len(names) - k)] if names is not new else [NEW_CLASS] * len(names)
        )
        return images @ names.T - class_offsets(shots, labels, names, classes, NEW_CLASS_BALANCE)

    cosines = ranked(trained)
    alone, among = (x.double().numpy() for x in (cosines, ranked(torch.cat([trained, others]))))
    probabilities = softmax(scale * alone)
    means = torch.stack([shots[labels == j].mean(dim=0) for j in range(k)])
    nearest = (images @ shots.T).sort(dim=1).values[:, -NEIGHBOURS:]
    x, m, s = (t.double().numpy() for t in (images, means, shots))
    to_classes = _distances(x, m, s - m[labels.numpy()]).min(axis=1)
    everything = s.mean(axis=0, keepdims=True)
    scores = {
        "cosine": alone.max(axis=1),
        "probability": probabilities.max(axis=1),
        "energy": np.log(np.exp(scale * alone).sum(axis=1)),
        "lead over the next name": np.diff(np.sort(alone, axis=1)[:, -2:], axis=1)[:, 0],
        "lead over the mean of 50 distractor classes": among[:, :k].max(axis=1) - among[:, k:].mean(axis=1),
        "probability among 50 distractor classes": softmax(scale * among)[:, :k].sum(axis=1),
        "nearest 3 shots": nearest.mean(dim=1).double().numpy(),
        "nearest class mean": (x @ (m / np.linalg.norm(m, axis=1, keepdims=True)).T).max(axis=1),
        "Mahalanobis": -to_classes,
        "relative Mahalanobis": _distances(x, everything, s - everything)[:, 0] - to_classes,
        "in-distribution score": in_distribution_score(images, cosines, shots, labels, range(k))
        .double()
        .numpy(),
    }
    return scores, ranked(new).amax(dim=1).double().numpy()


def let_through(score: Floats, listed: NDArray[np.int64], unlisted: NDArray[np.int64], kept: float) -> float:
    """Return the share of unlisted images let through, at the limit that keeps this share of listed ones."""
    return float((score[unlisted] >= np.quantile(score[listed], 1 - kept)).mean())


def _distances(images: Floats, means: Floats, residuals: Floats) -> Floats:
    """Return squared distances [N, K] by the shrunk covariance of the residuals."""
    covariance = residuals.T @ residuals / len(residuals)
    dimensions = len(covariance)
    even = np.trace(covariance) / dimensions * np.eye(dimensions)
    precision = np.linalg.inv((1 - SHRINKAGE) * covariance + SHRINKAGE * even)
    apart = images[:, None] - means[None]
    distances: Floats = np.einsum("nkd,de,nke->nk", apart, precision, apart)
    return distances
