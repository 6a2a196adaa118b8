"""The scoring rule of a request, by the share of its classes that the model was trained on.

| kind | classes of the request | trained or new class | which trained class |
|---|---|---|---|
| closed | all trained | – | text features, prototypes and linear discriminants |
| mixed | some trained | text features less one offset per class (`class_offsets`) | the same |
| untrained | none trained | text features: the paper's scores | – |

What the model was not trained for is answered by the pre-trained network (`untrained`).

benchmarks/pages/requests.md has the measurements.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import harmonic_mean
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from clipcite.types.classify import NEW_CLASS_BALANCE
from core.clip.inference.class_offsets import NEW_CLASS, class_means, class_offsets
from core.clip.inference.discriminants import linear_discriminants
from core.clip.inference.pile import less_prior

RequestKind = Literal["closed", "mixed", "untrained"]
SCORING_VERSION = 5
"""Version of the scores of closed requests.

A calibration of another version gives no prediction sets, but its temperature still counts.
"""
TEXT_COUNTS_AS = 3.0
"""Weight of the text of a class against its shots (shots)."""
DISCRIMINANT_WEIGHT = 3.0
"""Weight of the discriminants relative to text and prototypes, with many shots."""
MIN_IMAGES = 4
"""Minimum number of shots of a class that the prior may not push below half of them right."""


@dataclass(frozen=True)
class TrainedScores:
    """Scores among the K trained classes of a request: features [N, D] times `weights`, plus `biases`."""

    columns: Tensor
    """[K], positions of these classes in the request."""
    weights: Tensor
    """[K, D]."""
    biases: Tensor
    """[K]."""


@dataclass(frozen=True)
class StockScores:
    """The plain cosines, for images less similar than `threshold` to the mean shot of every class."""

    class_means: Tensor
    """[K, D], normalised."""
    threshold: Tensor
    text_weights: Tensor
    """[C, D], normalised."""


@dataclass(frozen=True)
class RequestRule:
    """The rule of one request with C classes.

    The score of a class is its cosine with the image, minus the offset of the class. `among_trained` replaces
    the scores of the trained classes, which changes their order and differences. If there are new classes,
    the replaced scores are shifted so that the maximum over the trained classes does not change.
    """

    kind: RequestKind
    classifier_weights: Tensor
    """[C, D], normalised."""
    offsets: Tensor
    """[C]."""
    among_trained: TrainedScores | None = None
    if_unlike: StockScores | None = None

    def scores(self, image_features: Tensor) -> Tensor:
        """Return the scores [N, C] of images [N, D], in units of the cosine."""
        scores = image_features @ self.classifier_weights.T - self.offsets
        trained, stock = self.among_trained, self.if_unlike
        if trained is not None:
            among = image_features @ trained.weights.T + trained.biases
            if self.kind == "mixed":
                best = scores[:, trained.columns].amax(dim=1, keepdim=True)
                among = among - among.amax(dim=1, keepdim=True) + best
            scores[:, trained.columns] = among
        if stock is not None:
            nearest = (image_features @ stock.class_means.T).amax(dim=1, keepdim=True)
            scores = torch.where(nearest < stock.threshold, image_features @ stock.text_weights.T, scores)
        return scores

    @property
    def nbytes(self) -> int:
        parts = [part for part in (self, self.among_trained, self.if_unlike) if part is not None]
        return sum(v.nbytes for part in parts for v in vars(part).values() if isinstance(v, Tensor))


def kind_of(classes: Sequence[int]) -> RequestKind:
    """Return the kind of a request.

    Args:
        classes: trained class of each candidate, or NEW_CLASS.
    """
    trained = [c != NEW_CLASS for c in classes]
    return "untrained" if not any(trained) else "closed" if all(trained) else "mixed"


def request_rule(
    shots: tuple[Tensor, Tensor] | None,
    text_weights: Tensor,
    classes: Sequence[int],
    balance: float = NEW_CLASS_BALANCE,
) -> RequestRule:
    """Return the rule of a request.

    Args:
        shots: support set, features [S, D] and labels [S], from the model that computed `text_weights`.
            Without a support set, every request is untrained.
        text_weights: [C, D], normalised text features of the candidates.
        classes: trained class of each candidate, or NEW_CLASS.
        balance: strength of the offsets. 0 gives the paper's scores for every kind.
    """
    kind = "untrained" if shots is None else kind_of(classes)
    if shots is None or kind == "untrained" or balance == 0:
        return RequestRule(kind, text_weights, text_weights.new_zeros(len(text_weights)))
    features, labels = shots
    weights, among = trained_scores(
        features,
        labels,
        text_weights,
        classes,
        balance,
        TEXT_COUNTS_AS,
        linear_discriminants(features, labels),
    )
    if among is None or kind == "mixed":
        weights = text_weights
    return RequestRule(kind, weights, class_offsets(features, labels, weights, classes, balance), among)


def adapted_rule(
    shots: tuple[Tensor, Tensor] | None,
    text_weights: Tensor,
    classes: Sequence[int],
    logit_scale: float,
    balance: float = NEW_CLASS_BALANCE,
) -> RequestRule:
    """Return the rule of a request to a trained model. Takes the arguments of `request_rule`.

    A prior (`pile.less_prior`) lowers classes with more shots than others. It is halved until it leaves
    at least half of the shots right in each class of `MIN_IMAGES` or more that has so many right without it.
    If there are new classes, only the order of the trained classes changes, not their highest score. The
    paper's scores do not change.

    Args:
        logit_scale: factor of the scores in the softmax.
    """
    rule = request_rule(shots, text_weights, classes, balance)
    among = rule.among_trained
    if shots is None or among is None:
        return rule
    features, labels = shots
    own, counts = torch.tensor([c for c in classes if c != NEW_CLASS]), labels.bincount()
    less = torch.from_numpy(less_prior(counts[own].numpy(), logit_scale))
    scores = features @ among.weights.T + among.biases

    def recognised(strength: float) -> Tensor:
        """Return [K], True for the classes of which at least half of the shots are recognised."""
        right = own[(scores - strength * less).argmax(dim=1)] == labels
        return 2 * labels[right].bincount(minlength=len(counts)) >= counts

    strength, asked = 1.0, (counts >= MIN_IMAGES) & recognised(0)
    while (asked & ~recognised(strength)).any():
        strength /= 2
    return replace(rule, among_trained=replace(among, biases=among.biases - strength * less))


def trained_scores(
    shot_features: Tensor,
    labels: Tensor,
    text_weights: Tensor,
    classes: Sequence[int],
    balance: float,
    text_counts_as: float,
    discriminants: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, TrainedScores | None]:
    """Return classifier weights [C, D] with prototypes, and the scores among the trained classes.

    A trained class gets the normalised text_c + n / (n + text_counts_as) (prototype_c − mean prototype). A
    new class gets its text. n is the harmonic mean of the classes' numbers of shots, because the noise of a
    class mean falls as 1 / n. It is the same for all classes, so small classes move as far as large ones.

    A prototype is the normalised mean feature of a class's shots. Image features are shifted from text
    features in a common direction (W. Liang et al., "Mind the Gap", NeurIPS 2022, arXiv 2203.02053).
    Without their mean, prototypes separate the classes and do not favour trained classes in general.

    The scores are (cosines − offsets + w · discriminants) / (1 + w) with these weights and w = 3 n / (n + 3).
    The discriminants are scaled so that their spread over the shots equals that of the cosines with the
    texts. With one class in the request, or one shot per class, there are no discriminants.

    Args:
        shot_features, labels, text_weights, classes, balance: as in `request_rule`. At least one class is
            trained.
        text_counts_as: weight of the text of a class against its shots (shots).
        discriminants: `linear_discriminants` of the shots.

    Returns:
        Weights, and scores or None. There are no scores if a trained class of the request has no shots: its
        text would be at a disadvantage against prototypes.
    """
    present, means = class_means(shot_features, labels)
    prototypes = F.normalize(means, dim=-1)  # [K, D]
    n = float(harmonic_mean(labels.unique(return_counts=True)[1].tolist()))
    moves = n / (n + text_counts_as) * (prototypes - prototypes.mean(dim=0))
    place = {label: i for i, label in enumerate(present.tolist())}
    moved = text_weights.clone()
    for row, label in enumerate(classes):
        if label in place:
            moved[row] += moves[place[label]]
    moved = F.normalize(moved, dim=-1)

    columns = [i for i, c in enumerate(classes) if c != NEW_CLASS]
    own = [classes[i] for i in columns]
    if not set(own) <= set(place):
        return moved, None
    weights = moved[columns]
    biases = -class_offsets(shot_features, labels, weights, own, balance)
    if discriminants is not None and len(set(own)) > 1:
        rows = [place[c] for c in own]
        shot_weights, shot_biases = (x[rows] - x[rows].mean(dim=0) for x in discriminants)
        cosines = shot_features @ text_weights[columns].T
        spread = (cosines - cosines.mean(dim=1, keepdim=True)).std()
        w = DISCRIMINANT_WEIGHT * n / (n + TEXT_COUNTS_AS)
        deviation = (shot_features @ shot_weights.T + shot_biases).std()
        if deviation > 1e-4:  # less is rounding: the classes have the same images
            scale = w * spread / deviation
            weights = (weights + scale * shot_weights) / (1 + w)
            biases = (biases + scale * shot_biases) / (1 + w)
    return moved, TrainedScores(torch.tensor(columns), weights, biases)
