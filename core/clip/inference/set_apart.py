"""Which images of a pile are something else, after people answered about some of them.

Until somebody has said anything about an image, the limit of `something_else` alone decides if the model has
training images, and nothing is set apart if it has none. From the first answer on, nothing is set apart until
a person has said "none of these" once. Then the limit decides together with walks from every labelled image.
What a person said stays. An image near no answer is judged by the limit alone. benchmarks/pages/pile.md has
the measurements.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from core.clip.inference.answers import Answers
from core.clip.inference.graph import Bools, Floats, Ints, Neighbours, logarithm, returns, walk
from core.clip.inference.groups import SHOWN
from core.clip.inference.pile import NONE, Support, something_else

KEEP = 1.5
"""Below the limit, an image stays in the classes if walks from the images of a class reach it e^KEEP times as
often as walks from images labelled "none of these"."""
DROP = -1.0
"""Above the limit, an image is set apart if walks from images labelled "none of these" reach it e^-DROP times
as often as walks from the images of any class."""
FAR = -3.0
"""Walks keep no image whose score is lower than this, in robust standard deviations from the median of the
unseen members of named groups."""
FEW = 10
"""Minimum number of such members. With fewer, walks keep no image."""


@dataclass(frozen=True)
class Apart:
    """The judgement of N images: which are something else."""

    answers: Answers
    score: Floats
    """[N], as in `something_else`."""
    limit: float
    evidence: Floats
    """[N], logarithm of the visits by walks from the strongest class, minus that of the visits by walks from
    images labelled "none of these". 0 if there are none of these."""
    far: Bools
    """[N], True for images too unlike the classes to be kept by walks."""
    without_own: Floats
    """[N], `evidence` without the image's own label, for the images that measure."""
    limit_alone: bool = False
    """Nobody has said anything, and the model has training images: the limit alone decides."""
    only_said: bool = False
    """Only images that a person marked as none of these are something else."""

    @cached_property
    def apart(self) -> Bools:
        """[N], True for something else."""
        said, found = self.answers, self._judged(self.evidence)
        found[said.never_none] = False
        found[said.labelled] = said.labels[said.labelled] == NONE
        return found

    @cached_property
    def apart_without_own(self) -> Bools:
        """[N], the same, but each measuring image is judged without its own label."""
        none = self.answers.labels == NONE
        # Without the only such label, nobody would have said "none of these".
        found: Bools = self._judged(self.without_own) & ~(none & (none.sum() == 1))
        found[self.answers.never_none] = False
        return found

    def _judged(self, evidence: Floats) -> Bools:
        none, below = self.answers.labels == NONE, self.score < self.limit
        if self.only_said:
            return np.zeros(len(self.score), bool)
        if not none.any():
            return below & self.limit_alone
        found: Bools = below & ((evidence < KEEP) | self.far) | (evidence < DROP)
        return found

    @property
    def near_limit(self) -> Floats | None:
        """[N], value of a label for each image: the nearer the limit, the more. None without a limit."""
        return np.exp(-np.abs(self.score - self.limit)) if np.isfinite(self.limit) else None


def judge_apart(
    images: Floats,
    shots: Support,
    answers: Answers,
    nearest: Neighbours,
    trained: tuple[Floats, Ints] | None = None,
    judged: Ints | None = None,
) -> Apart:
    """Judge which images [N, D] of a pile, normalised, are something else.

    Args:
        shots: images that set the limit: the model's training images, or labelled ones if it has none.
        nearest: neighbours among the images.
        trained: features [T, D] and classes [T] of the model's training images, from which walks also start.
            The classes are positions in `answers.names`.
        judged: labelled images that are also judged without their label.
    """
    none = images[answers.examples & (answers.labels == NONE)]
    support = Support(
        np.concatenate([shots.features, none]).astype(np.float32),
        np.concatenate([shots.labels, np.full(len(none), NONE)]),
        len(shots.labels),
    )
    found = something_else(support, images, nearest=nearest)
    evidence = without_own = np.zeros(len(images), np.float32)
    if (answers.labels == NONE).any():
        evidence, without_own = _evidence(images, answers, nearest, trained, judged)
    limit_alone = answers.nothing and trained is not None
    far = _far(found.score, answers)
    return Apart(answers, found.score, found.limit, evidence, far, without_own, limit_alone)


def _evidence(
    images: Floats,
    answers: Answers,
    nearest: Neighbours,
    trained: tuple[Floats, Ints] | None,
    rows: Ints | None,
) -> tuple[Floats, Floats]:
    """Return `Apart.evidence` and `Apart.without_own`."""
    more, classes = (images[:0], np.empty(0, np.int64)) if trained is None else trained
    step = nearest.after(more, images).steps()
    labels = np.concatenate([classes, answers.labels])
    columns = np.unique(labels[labels >= 0])
    starts = labels[:, None] == np.append(columns, NONE)  # [T + N, K + 1]
    visits = walk(step, starts.astype(np.float32))[len(more) :]
    evidence = _difference(visits)
    if rows is None or not len(rows):
        return evidence, evidence
    others = visits[rows] - starts[len(more) + rows] * returns(step, len(more) + rows)[:, None]
    without_own = evidence.copy()
    without_own[rows] = _difference(others)
    return evidence, without_own


def _difference(visits: Floats) -> Floats:
    if visits.shape[1] == 1:
        return -logarithm(visits[:, -1])
    difference: Floats = logarithm(visits[:, :-1].max(axis=1)) - logarithm(visits[:, -1])
    return difference


def _far(score: Floats, answers: Answers) -> Bools:
    named = (answers.named >= 0) & ~answers.seen
    if named.sum() < FEW:
        return np.ones(len(score), bool)
    middle = np.median(score[named])
    # Strangers are below the median, so only the upper half counts.
    above = score[named & (score >= middle)] - middle
    far: Bools = (score - middle) / (1.4826 * np.median(above) + 1e-6) < FAR
    return far


def least_like(images: Floats, shots: Support, answers: Answers) -> Ints | None:
    """Return the images to ask about if nobody has said "none of these": those least like any class.

    Returns:
        At most SHOWN positions. None if somebody has said it, if there are no classes, or if people have
        skipped most of these images or said that they are of one of the classes.
    """
    if not len(shots.classes) or (answers.labels == NONE).any():
        return None
    near = (images @ shots.means.T).max(axis=1)
    near[answers.labelled] = np.inf
    asked = np.argsort(near, kind="stable")[: min(SHOWN, int((~answers.labelled).sum()))]
    done = answers.skipped[asked] | answers.never_none[asked]
    return None if 2 * done.sum() > len(asked) or not len(asked) else asked
