"""A pile of images: which belong to none of the classes, which look alike, and the effect of labels.

The images inform each other. Random walks with restarts run on the graph of nearest neighbours among the
shots and the pile's images (D. Zhou et al., "Learning with Local and Global Consistency", NIPS 2003; A. Iscen
et al., CVPR 2019). An image is something else if the walks of every class rarely reach it, or if it is unlike
the mean of every class. This needs no example of something else, no evaluation and no training.

There are two questions, each with its own limit. The first is about ten times as strict.

| question | limit | used by |
|---|---|---|
| is it one of mine? | lower bound for the shots, each left out of its class | `something_else`, `alone` |
| is it like anything trained? | a low quantile of the shots against the *other* classes | `Foreign` |

benchmarks/pages/pile.md has the measurements.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import stdtrit

from core.clip.inference.graph import Bools, Floats, Ints, Neighbours, cosines, logarithm, returns, unit, walk

FALSE_REJECTION_RATE = 0.05
"""Fraction of the classes' own images that may be judged as something else, in open-set recognition."""
BURST, EQUAL = 0.2, 1e-4
"""Two shots of a class count as one photo if their distance (1 - cosine) is below this part of the class's
width, or below `EQUAL`. The width is the median distance of a shot to the one farthest from it. Unlike the
median of all distances, it stays the same if most shots are of one burst. A class with a wrong label is too
wide, so a width counts as at most the median over the classes."""
FOREIGN_QUANTILE = 0.05
"""Fraction of the shots below the limit of `Foreign` when they are compared with the other classes."""
PRIOR = 1.0
"""Fraction of the logarithm of a class's number of training images that is subtracted from its score (τ)."""
REST, NONE = -1, -2
"""`REST`: judged as something else. `NONE`: labelled "none of these" by a person."""


@dataclass(frozen=True)
class Support:
    """The shots of a model, and images that a person has labelled since."""

    features: Floats
    """[S, D], normalised."""
    labels: Ints
    """[S], class or NONE."""
    shots: int | None = None
    """Number of first rows that set the limit. None: all. Labelled images do not set it, because they are a
    biased choice: the central images of a group are too similar to it."""

    @classmethod
    def of(cls, features: Floats, labels: Ints, shots: int | None = None) -> "Support":
        """Create the support set with the first row of each photo.

        Otherwise the score of a left-out shot would come from its twins, and the limit would reject almost
        all other photos of the class. The mean of the rows would not do: it is nearer to its class than any
        photo.
        """
        first = np.unique(photos_of(features, labels), return_index=True)[1]
        return cls(features[first], labels[first], None if shots is None else int((first < shots).sum()))

    @cached_property
    def classes(self) -> Ints:
        """[K], ascending."""
        found: Ints = np.unique(self.labels[self.labels >= 0])
        return found

    @cached_property
    def members(self) -> Floats:
        """[S, K], 1 where the row belongs to the class."""
        members: Floats = (self.labels[:, None] == self.classes).astype(np.float32)
        return members

    @cached_property
    def sums(self) -> Floats:
        """[K, D]."""
        sums: Floats = self.members.T @ self.features
        return sums

    @cached_property
    def means(self) -> Floats:
        """[K, D], normalised."""
        return unit(self.sums)

    @cached_property
    def left_out(self) -> Ints:
        """Rows of the shots that set the limit. Their class has at least one other image."""
        others = self.members @ self.members.sum(axis=0) - 1
        return np.flatnonzero(others[: self.shots] > 0)

    @cached_property
    def near_left_out(self) -> Floats:
        """Cosine of each `left_out` shot with the mean of the other images of its class."""
        rows = self.left_out
        others = self.members[rows] @ self.sums - self.features[rows]
        near: Floats = (self.features[rows] * unit(others)).sum(axis=1)
        return near


def photos_of(features: Floats, labels: Ints) -> Ints:
    """Return [S], the number of each row's photo. Nearly equal rows of a class, such as a burst, are one.

    A photo is the rows near its first one. Chains of near rows would join a dense class into one photo.

    Args:
        features: [S, D], normalised.
        labels: [S], classes. Rows with negative ones are photos of their own.
    """
    first = np.arange(len(labels))  # row with which each row's photo begins
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels[labels >= 0])]
    several = [rows for rows in classes if len(rows) > 1]
    farthest = [np.concatenate([c.min(axis=1) for c in cosines(features[rows])]) for rows in several]
    widths = [float(np.median(1 - cosine)) for cosine in farthest]
    typical = sorted(widths)[(len(widths) - 1) // 2] if widths else 0
    for rows, width in zip(several, widths, strict=True):
        limit = max(BURST * min(width, typical), EQUAL)
        while len(rows):
            near = 1 - features[rows] @ features[rows[0]] < limit
            near[0] = True
            first[rows[near]] = rows[0]
            rows = rows[~near]
    numbers: Ints = np.unique(first, return_inverse=True)[1].astype(np.int64)
    return numbers


@dataclass(frozen=True)
class Judgement:
    """Scores of N images."""

    best: Ints
    """[N], the most similar class, even for something else."""
    score: Floats
    """[N]. An image below `limit` is something else."""
    limit: float
    marked: Bools
    """[N], True if the image is most similar to images that a person marked as none of the classes."""

    @property
    def known(self) -> Bools:
        """[N], True if the image belongs to one of the classes."""
        return (self.score >= self.limit) & ~self.marked


def something_else(support: Support, images: Floats, nearest: Neighbours | None = None) -> Judgement:
    """Sort a folder's images [N, D], normalised, into the classes and something else.

    An image has two scores: how often walks from the shots of its best class visit it (logarithm of the mean
    over the shots), and its cosine with the nearest class mean. Both are standardised by the scores of the
    shots, each left out of its class. The lower score counts. A mark NONE affects only images that it reaches
    more often than any class does. With one shot per class no shot can be left out, so there is no limit.

    Args:
        nearest: neighbours among the images. None: they are searched.
    """
    n, rows, classes = len(support.labels), support.left_out, support.classes
    if not len(classes):
        nothing = np.zeros(len(images), np.float32)
        return Judgement(np.full(len(images), REST), nothing, -np.inf, np.ones(len(images), bool))
    none = (support.labels == NONE).astype(np.float32)[:, None]
    count = support.members.sum(axis=0)
    start = np.concatenate([support.members / count, none / max(1.0, float(none.sum()))], axis=1)
    step = (nearest or Neighbours.among(images)).after(support.features, images).steps()
    visits = walk(step, start)  # [S + N, K + 1]
    reach, by_none = visits[n:, :-1], visits[n:, -1]
    best = classes[reach.argmax(axis=1)]
    marked = (by_none > reach.max(axis=1)) & bool(none.any())
    if not len(rows):
        return Judgement(best, np.zeros(len(images), np.float32), -np.inf, marked)
    own = support.members[rows].argmax(axis=1)
    # Visits of a shot by walks of its own class, without those that it started.
    others = (visits[rows, own] * count[own] - returns(step, rows)) / (count[own] - 1)
    walked, near = logarithm(others), support.near_left_out
    score = np.minimum(
        standardised(logarithm(reach.max(axis=1)), walked),
        standardised((images @ support.means.T).max(axis=1), near),
    )
    left_out = np.minimum(standardised(walked, walked), standardised(near, near))
    return Judgement(best, score, rejection_limit(left_out), marked)


def alone(support: Support, images: Floats, classes: Ints | None = None) -> Judgement:
    """Judge each image [N, D] alone, by its cosine with the nearest class mean.

    Args:
        classes: classes of the request, which also set the limit. None: all.
    """
    rows = np.isin(support.classes, support.classes if classes is None else classes)
    near = images @ support.means[rows].T
    asked = np.isin(support.labels[support.left_out], support.classes[rows])
    left_out = support.near_left_out[asked]
    return Judgement(
        support.classes[rows][near.argmax(axis=1)],
        near.max(axis=1),
        rejection_limit(left_out),
        np.zeros(len(images), bool),
    )


def rejection_limit(left_out: Floats, false_rejection_rate: float = FALSE_REJECTION_RATE) -> float:
    """Return the limit of something else: images that score below it are of no class.

    It is the lower bound of Student's prediction interval of the left-out shots' scores [R]. If scores are
    normal, a new image of the classes is below it with probability `false_rejection_rate`, however few shots
    there are. Their quantile would reject more: with 25 shots, 8% instead of 5%. It is -inf for fewer than
    two shots.
    """
    count = len(left_out)
    if count < 2:
        return -np.inf
    below = stdtrit(count - 1, 1 - false_rejection_rate) * left_out.std(ddof=1) * np.sqrt(1 + 1 / count)
    return float(left_out.mean() - below)


@dataclass(frozen=True)
class Foreign:
    """Detector of images unlike anything trained. The pre-trained model classifies them."""

    means: Floats
    """[K, D], normalised means of the trained classes."""
    limit: float

    @classmethod
    def of(cls, support: Support) -> "Foreign | None":
        """Create the detector from the shots, each against the other classes. None with a single class."""
        if len(support.classes) < 2:
            return None
        near = support.features @ support.means.T
        others = np.where(support.members > 0, -np.inf, near).max(axis=1)[support.labels >= 0]
        return cls(support.means, float(np.quantile(others, FOREIGN_QUANTILE)))

    def __call__(self, images: Floats) -> Bools:
        """Return [N], True for images [N, D] that are unlike anything trained."""
        found: Bools = (images @ self.means.T).max(axis=1) < self.limit
        return found


def less_prior(counts: Ints, logit_scale: float) -> Floats:
    """Return [K], the part of each class's score that is due only to its number of shots.

    Training has seen class c n_c times, so it prefers large classes by about log n_c (A. K. Menon et al.,
    "Long-tail learning via logit adjustment", ICLR 2021). For classes of equal size this is 0. Do not apply
    it to previews, because their network was not trained on the images.

    Args:
        counts: [K], numbers of shots, including images that joined them in self-training or by a label.
    """
    n = np.maximum(counts, 1)
    less: Floats = (PRIOR / logit_scale * np.log(n / n.min())).astype(np.float32)
    return less


def standardised(values: Floats, shots: Floats) -> Floats:
    """Return the values standardised by the mean and standard deviation of the shots' values."""
    scaled: Floats = (values - shots.mean()) / (shots.std() + 1e-9)
    return scaled
