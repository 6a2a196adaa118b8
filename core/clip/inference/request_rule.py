"""The scoring rule of a request, by the share of its classes that the model was trained on.

| kind | classes of the request | classifier weights | offsets |
|---|---|---|---|
| closed | all trained | text features with prototypes | one per class (`class_offsets`) |
| mixed | some trained | the same; new classes: text features | γ for trained classes |
| foreign | none trained | text features | none: the paper's scores |

benchmarks/pages/requests.md has the measurements.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from core.clip.inference.class_offsets import NEW_CLASS, NEW_CLASS_BALANCE, class_offsets

RequestKind = Literal["closed", "mixed", "foreign"]
TEXT_COUNTS_AS = 3.0
"""Weight of the text of a class against its prototype (shots)."""
MARGIN_SHARE = 0.5
"""Share of the shots' median margin that trained classes give away at the default balance."""


@dataclass(frozen=True)
class RequestRule:
    """The rule of one request with C classes: an image scores cosine less offset for each class."""

    kind: RequestKind
    classifier_weights: Tensor
    """[C, D], normalised."""
    offsets: Tensor
    """[C]."""

    def scores(self, image_features: Tensor) -> Tensor:
        """Return the scores [N, C] of images [N, D], in units of the cosine."""
        return image_features @ self.classifier_weights.T - self.offsets


def kind_of(classes: Sequence[int]) -> RequestKind:
    """Return the kind of a request.

    Args:
        classes: trained class of each candidate, or NEW_CLASS.
    """
    trained = [c != NEW_CLASS for c in classes]
    return "foreign" if not any(trained) else "closed" if all(trained) else "mixed"


def request_rule(
    shots: tuple[Tensor, Tensor] | None,
    text_weights: Tensor,
    classes: Sequence[int],
    balance: float = NEW_CLASS_BALANCE,
    kind: RequestKind | None = None,
) -> RequestRule:
    """Return the rule of a request.

    Args:
        shots: support set, features [S, D] and labels [S], from the model that made `text_weights`. Without
            one, every request is foreign.
        text_weights: [C, D], normalised text features of the candidates.
        classes: trained class of each candidate, or NEW_CLASS.
        balance: strength of the correction; 0 gives the paper's scores for every kind.
        kind: the kind whose rule applies; None is the request's own.
    """
    kind = "foreign" if shots is None else kind or kind_of(classes)
    if shots is None or kind == "foreign" or balance == 0:
        return RequestRule(kind, text_weights, text_weights.new_zeros(len(text_weights)))
    # Beside prototypes, the text of a trained class without a shot would be at a disadvantage.
    every_class = set(classes) - {NEW_CLASS} <= set(shots[1].tolist())
    strength = min(1.0, balance / NEW_CLASS_BALANCE) if every_class else 0.0
    weights = add_prototypes(text_weights, *shots, classes, TEXT_COUNTS_AS, strength)
    if kind == "closed":
        return RequestRule(kind, weights, class_offsets(*shots, weights, classes, balance))
    trained = torch.tensor(classes) != NEW_CLASS
    if trained.all() or not trained.any():
        return RequestRule(kind, weights, weights.new_zeros(len(weights)))
    cosines = left_out_cosines(text_weights, *shots, classes, TEXT_COUNTS_AS, strength)
    margins = cosines[:, trained].amax(dim=1) - cosines[:, ~trained].amax(dim=1)
    gamma = min(1.0, balance * MARGIN_SHARE / NEW_CLASS_BALANCE) * margins.median().clamp(min=0)
    return RequestRule(kind, weights, trained * gamma)


def add_prototypes(
    text_weights: Tensor,
    shot_features: Tensor,
    labels: Tensor,
    classes: Sequence[int],
    text_counts_as: float,
    strength: float = 1.0,
) -> Tensor:
    """Return classifier weights [C, D] in which trained classes are moved towards their shots.

    A trained class with n shots gets the normalised text_c + n / (n + text_counts_as) (prototype_c − mean
    prototype), a new class its text.

    A prototype is the normalised mean feature of a class's shots. Image features are shifted from text
    features in a common direction (W. Liang et al., "Mind the Gap", NeurIPS 2022, arXiv 2203.02053).
    Without their mean, prototypes separate the classes and do not favour trained classes in general.

    Args:
        text_weights: [C, D], normalised.
        shot_features: [S, D], normalised, from the same model.
        labels: [S], trained class of each shot.
        classes: trained class of each candidate, or NEW_CLASS.
        text_counts_as: weight of the text (shots).
        strength: factor of the move.
    """
    present = labels.unique().tolist()
    means = torch.stack([shot_features[labels == label].mean(dim=0) for label in present])
    prototypes = F.normalize(means, dim=-1)  # [K, D]
    counts = torch.stack([(labels == label).sum() for label in present])[:, None]  # [K, 1]
    moves = strength * counts / (counts + text_counts_as) * (prototypes - prototypes.mean(dim=0))
    move_of = dict(zip(present, moves, strict=True))
    classifier_weights = text_weights.clone()
    for row, label in enumerate(classes):
        if label in move_of:
            classifier_weights[row] += move_of[label]
    return F.normalize(classifier_weights, dim=-1)


def left_out_cosines(
    text_weights: Tensor,
    shot_features: Tensor,
    labels: Tensor,
    classes: Sequence[int],
    text_counts_as: float,
    strength: float = 1.0,
) -> Tensor:
    """Return [S, C]: cosines of the shots with `add_prototypes`, each left out of its own class's prototype.

    The only shot of a class leaves its text alone. Arguments as for `add_prototypes`.
    """
    weights = add_prototypes(text_weights, shot_features, labels, classes, text_counts_as, strength)
    _, place, counts = labels.unique(return_inverse=True, return_counts=True)
    sums = shot_features.new_zeros(len(counts), shot_features.shape[1]).index_add_(0, place, shot_features)
    mean = F.normalize(sums, dim=-1).mean(dim=0)
    others = counts[place, None] - 1  # [S, 1]
    moves = strength * others / (others + text_counts_as) * (F.normalize(sums[place] - shot_features) - mean)
    # ⟨x, normalise(text + move)⟩ without a tensor [S, C, D]
    dots = shot_features @ text_weights.T + (shot_features * moves).sum(dim=1, keepdim=True)
    squares = 1 + 2 * moves @ text_weights.T + moves.square().sum(dim=1, keepdim=True)
    own = labels[:, None] == torch.tensor(classes)[None, :]
    return torch.where(own, dots / squares.sqrt(), shot_features @ weights.T)
