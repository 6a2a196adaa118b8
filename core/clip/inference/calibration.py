"""What a model's answers are worth: a temperature, sets that hold the truth, and "none of these".

All three are fitted on images that a network like the model was not trained on, with the trained names
as candidates. They say something about images like the user's own, and about these names only.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MIN_HELD_OUT = 30
"""Held-out images below which nothing is fitted: a 5 % quantile of fewer is their smallest value."""
ACCEPTANCE_RATE = 0.95
"""Share of the images of trained classes that `reject` lets through."""
MAX_SCORES = 100
TEMPERATURES = np.geomspace(0.1, 1000, 401)
"""At the highest all names are as likely: what a network that knows nothing of the names has to say."""
BINS = 10


@dataclass(frozen=True)
class Calibration:
    """Of one model at one α."""

    alpha: float
    images: int
    """That it was fitted on."""
    temperature: float
    """The cosines are multiplied by logit_scale / temperature."""
    nonconformity: tuple[float, ...]
    """1 − probability of the true class, ascending; of many images, evenly spaced ones."""
    least_similarity: float
    """Of the best trained name, after its offset: 95 % of the held-out images have more."""
    rejection_threshold: float | None = None
    """Likewise of `core.clip.inference.in_distribution`. None for the stock network, which keeps no shots:
    `least_similarity` is what it rejects by."""

    @property
    def least(self) -> float:
        """Of what this model rejects by."""
        return self.least_similarity if self.rejection_threshold is None else self.rejection_threshold

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "nonconformity": list(self.nonconformity)}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Calibration":
        """From `to_dict`."""
        return cls(**{**plain, "nonconformity": tuple(plain["nonconformity"])})

    def conformal_threshold(self, coverage: float) -> float:
        """A class is in the set if its calibrated probability is at least this.

        Split conformal prediction (V. Vovk et al., 2005; the score of M. Sadinle et al., JASA 2019): a new
        image like the held-out ones has its true class in the set with a probability of `coverage` or
        more. 0, which means every class, where the images are too few to say so.
        """
        rank = math.ceil((len(self.nonconformity) + 1) * coverage)
        return 0.0 if rank > len(self.nonconformity) else 1 - self.nonconformity[rank - 1]


def fit_calibration(
    scores: Floats,
    truth: NDArray[np.int64],
    in_distribution_score: Floats | None = None,
    *,
    logit_scale: float,
    alpha: float,
) -> Calibration | None:
    """None with fewer than `MIN_HELD_OUT` images.

    Args:
        scores: [N, K], what the trained names are ranked by: cosines less their offsets.
        truth: [N].
        in_distribution_score: [N], with the trained class that an image is most like, where it is known.
    """
    if len(truth) < MIN_HELD_OUT:
        return None
    temperature = fit_temperature(logit_scale * scores, truth)
    right = softmax(logit_scale * scores / temperature)[np.arange(len(truth)), truth]
    return Calibration(
        alpha=alpha,
        images=len(truth),
        temperature=temperature,
        nonconformity=tuple(math.ceil(1e5 * score) / 1e5 for score in _thinned(np.sort(1 - right))),
        least_similarity=float(np.quantile(scores.max(axis=1), 1 - ACCEPTANCE_RATE)),
        rejection_threshold=None
        if in_distribution_score is None
        else float(np.quantile(in_distribution_score, 1 - ACCEPTANCE_RATE)),
    )


def fit_temperature(logits: Floats, truth: NDArray[np.int64]) -> float:
    """The T at which softmax(logits / T) makes the truth most likely (C. Guo et al., ICML 2017)."""
    losses = [-_log_softmax(logits / t)[np.arange(len(truth)), truth].mean() for t in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


def cross_calibrated(logits: Floats, truth: NDArray[np.int64]) -> Floats:
    """Probabilities [N, K], those of every second image with the temperature of the others."""
    scaled = np.empty_like(logits)
    for half in (0, 1):
        scaled[half::2] = logits[half::2] / fit_temperature(logits[1 - half :: 2], truth[1 - half :: 2])
    return softmax(scaled)


def softmax(logits: Floats) -> Floats:
    result: Floats = np.exp(_log_softmax(logits))
    return result


@dataclass(frozen=True)
class Bin:
    """Answers of about the same confidence."""

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


def reliability(probabilities: Floats, truth: NDArray[np.int64]) -> list[Bin]:
    """The answers by their confidence, in ten bins of equal width, empty ones left out."""
    sure = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    return [
        Bin(
            b / BINS,
            (b + 1) / BINS,
            int(of_bin.sum()),
            float(sure[of_bin].mean()),
            float(right[of_bin].mean()),
        )
        for b in range(BINS)
        if (of_bin := place == b).any()
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """ECE: how far confidence and accuracy lie apart, mean over the images."""
    images = sum(b.images for b in bins)
    return sum(b.images * abs(b.confidence - b.accuracy) for b in bins) / images


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def _thinned(ascending: Floats) -> Floats:
    """At most `MAX_SCORES`, each the largest of its part, so that no quantile comes out too small."""
    count = len(ascending)
    if count <= MAX_SCORES:
        return ascending
    places = np.ceil(np.arange(1, MAX_SCORES + 1) * count / MAX_SCORES).astype(int) - 1
    thinned: Floats = ascending[places]
    return thinned
