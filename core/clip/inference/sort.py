"""The sort of a pile: each image gets a class or is something else, given what people said about some."""

import hashlib
from dataclasses import dataclass, replace
from math import comb

import numpy as np
import torch
from torch import Tensor

from core.clip.inference.answers import UNSAID, Answers
from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.inference.classifier import Scores, scored
from core.clip.inference.graph import Bools, Ints, Neighbours
from core.clip.inference.labelled import SELF_TRAINED, Shots, Sorter, self_training_or_reason
from core.clip.inference.pile import NONE, Support
from core.clip.inference.request_rule import RequestRule
from core.clip.inference.set_apart import Apart, judge_apart

FOLDS = (4, 32)
"""Minimum and maximum number of sorts that each leave out some drawn labels, to measure."""
FOLD_IMAGES = 40_000
"""Number of images that these sorts have together, between this minimum and maximum."""
MAX_MEASURED = 512
"""Maximum number of images that measure a sort."""
SIGNIFICANCE_LEVEL = 0.05
"""1 minus the confidence level of `share_interval`."""


@dataclass(frozen=True)
class SortedPile:
    """The sort of N images into C classes."""

    answers: Answers
    """With the classes of the sort."""
    scores: Scores
    """[N, C], by the rule."""
    places: Ints
    """[N], class or NONE. What a person said stays."""
    apart: Apart
    support: Support
    """Images that set the limit."""
    from_model: bool
    """True if these are training images of the model."""
    missing: list[int]
    """How many more labels each new name needs for a training; empty without a trained model."""
    method: str
    """`self_training` or `image_by_image`."""
    reason: str
    measuring: Ints
    """Positions of the images that measure the sort (`measuring_images`)."""
    right: Bools
    """[M], True if this image was in its place before a person was asked about it alone."""


def sort_pile(
    images: Tensor,
    sorter: Sorter,
    answers: Answers,
    nearest: Neighbours,
    order: Ints,
    temperature: float = 1.0,
    *,
    something_else: bool = True,
) -> SortedPile:
    """Sort images [N, D], normalised.

    Args:
        answers: with the classes of the sorter, which is at least one.
        nearest: neighbours among the images.
        order: [N], the order in which images are drawn (`draw_order`).
        temperature: of the probabilities.
        something_else: False sets only those images apart that a person marked.
    """
    shots = Shots.of(sorter, images, answers.labels)
    support = limiting(sorter, images, answers, shots)
    trained = sorter.trained
    measuring = measuring_images(answers, order)
    guessed = np.flatnonzero((answers.drawn & ~answers.had_label)[measuring])
    started = None
    if trained is not None:
        column = {label: number for number, label in enumerate(shots.classes) if label != NEW_CLASS}
        asked = [row for row, label in enumerate(trained[1].tolist()) if label in column]
        columns = np.array([column[int(label)] for label in trained[1][asked]], np.int64)
        started = trained[0][asked].numpy(), columns
    apart = judge_apart(images.numpy(), support, answers, nearest, started, measuring[guessed])
    apart = replace(apart, only_said=not something_else)
    rule, places, method, reason = _classes(images, sorter, answers, apart.apart, shots)
    scores = scored(images, sorter.texts, rule, sorter.logit_scale / temperature)
    right = (answers.confirmed | ~answers.had_label)[measuring]
    folds = min(len(guessed), int(np.clip(FOLD_IMAGES // len(images), *FOLDS)))
    for part in np.array_split(guessed, folds) if folds else ():
        rows, without = measuring[part], apart.apart.copy()
        without[rows] = apart.apart_without_own[rows]
        found = _classes(images, sorter, answers.without(rows), without, None)[1]
        right[part] = found[rows] == answers.labels[rows]
    return SortedPile(
        answers,
        scores,
        places,
        apart,
        support,
        started is not None and len(started[1]) > 0,
        shots.missing(),
        method,
        reason,
        measuring,
        right,
    )


def _classes(
    images: Tensor, sorter: Sorter, answers: Answers, apart: Bools, shots: Shots | None
) -> tuple[RequestRule, Ints, str, str]:
    """Return the rule, the places [N], the method and its reason.

    Args:
        apart: [N], True for something else.
        shots: those of `Shots.of` for the answers, if already collected.
    """
    shots = shots or Shots.of(sorter, images, answers.labels)
    rule = shots.rule(sorter)
    scores = rule.scores(images)
    apart = apart & ~_without_images(scores, shots) | (answers.labels == NONE)
    free = ~apart & ~answers.labelled & ~answers.barred.any(axis=1)
    trained = self_training_or_reason(images[torch.from_numpy(free)], sorter, shots, rule)
    if isinstance(trained, str):
        method, reason = "image_by_image", trained
    else:
        method, reason, rule = "self_training", SELF_TRAINED, trained
        scores = rule.scores(images)
    barred = torch.from_numpy(answers.barred & ~answers.barred.all(axis=1, keepdims=True))
    places: Ints = scores.masked_fill(barred, -torch.inf).argmax(dim=1).numpy()
    places = np.where(apart, NONE, places)
    return rule, np.where(answers.labelled, answers.labels, places), method, reason


def _without_images(scores: Tensor, shots: Shots) -> Bools:
    """Return [N], True if the best class has no images. An image can't be unlike them, so it is not apart."""
    new = torch.tensor([label == NEW_CLASS for label in shots.classes])
    found: Bools = new[scores.argmax(dim=1)].numpy()
    return found


def limiting(sorter: Sorter, images: Tensor, answers: Answers, shots: Shots) -> Support:
    """Return the images that set the limit: training images of the classes, or examples if there are none.

    Beside training images, the examples of classes without any are returned too, but set no limit.
    """
    asked = torch.isin(shots.labels[: shots.trained], torch.tensor(shots.classes))
    features, labels = shots.features[: shots.trained][asked], shots.labels[: shots.trained][asked]
    known = set(labels.tolist())
    classes = np.array([*shots.classes, NONE, UNSAID])  # the last two have the indices NONE and UNSAID
    rows = np.flatnonzero(
        answers.examples & (answers.labels >= 0) & ~np.isin(classes[answers.labels], list(known))
    )
    return Support.of(
        np.concatenate([features.numpy(), images.numpy()[rows]]),
        np.concatenate([labels.numpy(), classes[answers.labels[rows]]]).astype(np.int64),
        len(labels) or None,
    )


# --- what measures a sort ---


def draw_order(pile: str, count: int) -> Ints:
    """Return [N], the random order in which images of a pile are drawn.

    It depends only on the pile and on the position, so what is known about an image does not affect its
    place, and adding images does not reorder the others.

    Args:
        pile: id of the pile.
    """
    seed = int.from_bytes(hashlib.sha256(pile.encode()).digest()[:8], "big")
    return np.argsort(np.random.default_rng(seed).random(count), kind="stable")


def measuring_images(answers: Answers, order: Ints) -> Ints:
    """Return the images that measure the sort.

    They are the images, in drawing order, up to the first that no person was asked about alone: a random
    sample of the pile, whatever a person was asked before. Skipped ones are left out.
    """
    missing = ~answers.alone[order]
    first = int(missing.argmax()) if missing.any() else len(order)
    found = order[:first][:MAX_MEASURED]
    return found[answers.checked[found]]


def share_interval(right: int, count: int, total: int) -> tuple[float, float]:
    """Return the exact 95% confidence interval of the share of right images in a pile.

    It is the interval of the fraction of `total` images that are right, if `right` of `count` randomly drawn
    ones are. Source: C. Clopper and E. Pearson, Biometrika 1934, for the hypergeometric distribution.
    """
    high = total - _fewest(count - right, count, total)
    return _fewest(right, count, total) / total, high / total


def _fewest(right: int, count: int, total: int) -> int:
    """Return the fewest right images with which `right` or more of `count` drawn ones are not too rare."""
    low, high = right, total - count + right
    while low < high:  # The probability grows with the number.
        middle = (low + high) // 2
        ways = sum(comb(middle, k) * comb(total - middle, count - k) for k in range(right, count + 1))
        if ways / comb(total, count) > SIGNIFICANCE_LEVEL / 2:
            high = middle
        else:
            low = middle + 1
    return low
