"""Calibration: temperature scaling and conformal prediction sets.

Both are fitted on held-out predictions with the trained classes as candidates. Prediction sets are valid only
for images like the training images, and for the trained classes. The temperature divides the logits of every
request, because with other names the raw probabilities are even less accurate.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from core.clip.inference.request_rule import SCORING_VERSION

Floats = NDArray[np.float64]
MIN_HELD_OUT = 30
"""Minimum number of held-out images."""
MAX_SCORES = 100
TEMPERATURES = np.geomspace(0.1, 1000, 401)
"""Search grid. The highest value makes all classes equally likely, for a model that recognises none."""
BINS = 10


@dataclass(frozen=True)
class FittedCalibration:
    """Calibration of one model at one α."""

    alpha: float
    images: int
    """Number of held-out images in the fit."""
    temperature: float
    """Divisor of the logits of every request: scores are multiplied by logit_scale / temperature."""
    nonconformity: tuple[float, ...]
    """1 − probability of the true class, ascending. At most 100 values, evenly spaced in rank."""
    scoring_version: int = SCORING_VERSION
    """`request_rule.SCORING_VERSION` of the scores in the fit."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {**asdict(self), "nonconformity": list(self.nonconformity)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "FittedCalibration":
        """Restore a calibration from `to_dict()`."""
        return cls(**{"scoring_version": 1, **fields, "nonconformity": tuple(fields["nonconformity"])})

    def conformal_threshold(self, coverage: float) -> float:
        """Return the minimum calibrated probability of the classes in a prediction set.

        Split conformal prediction (V. Vovk et al., 2005; score of M. Sadinle et al., JASA 2019): the set
        contains the true class with probability `coverage` or more, for images like the held-out ones.

        Returns:
            The threshold. It is 0, which admits every class, if there are too few held-out images for this
            coverage.
        """
        rank = math.ceil((len(self.nonconformity) + 1) * coverage)
        return 0.0 if rank > len(self.nonconformity) else 1 - self.nonconformity[rank - 1]


def fit_calibration(
    scores: Floats,
    truth: NDArray[np.int64],
    *,
    logit_scale: float,
    alpha: float,
) -> FittedCalibration | None:
    """Fit a calibration. Return None with fewer than `MIN_HELD_OUT` images.

    Args:
        scores: scores [N, K] of the trained classes, by the rule of a closed request.
        truth: [N], trained classes.
    """
    if len(truth) < MIN_HELD_OUT:
        return None
    temperature = fit_temperature(logit_scale * scores, truth)
    true_probability = softmax(logit_scale * scores / temperature)[np.arange(len(truth)), truth]
    return FittedCalibration(
        alpha=alpha,
        images=len(truth),
        temperature=temperature,
        nonconformity=tuple(math.ceil(1e5 * score) / 1e5 for score in thinned(np.sort(1 - true_probability))),
    )


def fit_temperature(logits: Floats, truth: NDArray[np.int64]) -> float:
    """Return the T that maximises the likelihood of softmax(logits / T) (C. Guo et al., ICML 2017).

    If every image is classified correctly, the likelihood has no maximum: it grows as T falls. Therefore the
    target of the true class is 1 − 1/(N + 2) for N images, and other classes share the rest (J. Platt, 1999).
    """
    images, classes = logits.shape
    rest = 1 / (images + 2) if classes > 1 else 0.0
    target = np.full(logits.shape, rest / max(1, classes - 1))
    target[np.arange(images), truth] = 1 - rest
    losses = [-(target * log_softmax(logits / t, axis=1)).sum() for t in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


def cross_calibrated(logits: Floats, truth: NDArray[np.int64]) -> Floats:
    """Return probabilities [N, K]. Each half of the images uses the temperature of the other half."""
    scaled = np.empty_like(logits)
    for half in (0, 1):
        scaled[half::2] = logits[half::2] / fit_temperature(logits[1 - half :: 2], truth[1 - half :: 2])
    return softmax(scaled)


def softmax(logits: Floats) -> Floats:
    """Return the row-wise softmax. scipy.special.softmax differs in the last bit."""
    result: Floats = np.exp(log_softmax(logits, axis=1))
    return result


def calibration_error(probabilities: Floats, truth: NDArray[np.int64]) -> float:
    """Return the ECE: mean over the images of the gap between confidence and accuracy in their bin.

    There are ten bins of equal width.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == truth
    gaps = np.bincount(np.minimum((confidence * BINS).astype(int), BINS - 1), confidence - correct)
    return float(np.abs(gaps).sum() / len(truth))


def thinned(ascending: Floats) -> Floats:
    """Reduce to at most `MAX_SCORES` values. Each is the maximum of its group, so that no quantile falls."""
    count = len(ascending)
    if count <= MAX_SCORES:
        return ascending
    ranks = np.ceil(np.arange(1, MAX_SCORES + 1) * count / MAX_SCORES).astype(int) - 1
    thinned: Floats = ascending[ranks]
    return thinned
