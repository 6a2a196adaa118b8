"""Self-training: images of a collection count as shots of a closed request."""

from collections.abc import Sequence

import torch
from torch import Tensor

from clipcite.types.classify import NEW_CLASS_BALANCE
from core.clip.inference.request_rule import RequestRule, adapted_rule

ROUNDS = 3
SURE_SHARE = 0.8
"""Fraction of the images of each predicted class that join its shots."""


def self_trained(
    shots: tuple[Tensor, Tensor],
    text_weights: Tensor,
    classes: Sequence[int],
    features: Tensor,
    logit_scale: float,
    balance: float = NEW_CLASS_BALANCE,
) -> RequestRule:
    """Return the rule of a closed request whose support set has grown by the images of a collection.

    In each of three rounds, the 80% most certain images of each predicted class join the shots of that class.
    They replace the images of the previous round, and determine the next rule. A class with one predicted
    image gets none. Rounds with a fraction per class are class-balanced self-training (Y. Zou et al., ECCV
    2018, arXiv 1810.07911). benchmarks/pages/requests.md has the measurements.

    Args:
        shots: support set, features [S, D] and labels [S], from the model that computed `text_weights`.
        text_weights: [C, D], normalised text features of the candidates.
        classes: [C], trained class of each candidate.
        features: [N, D], normalised, of the collection, from the same model.
        logit_scale, balance: as in `adapted_rule`.
    """
    rule = adapted_rule(shots, text_weights, classes, logit_scale, balance)
    for _ in range(ROUNDS):
        probability, predicted = (logit_scale * rule.scores(features)).softmax(dim=1).max(dim=1)
        rows, labels = [], []
        for column, label in enumerate(classes):
            own = (predicted == column).nonzero()[:, 0]
            surest = probability[own].argsort(descending=True, stable=True)[: int(SURE_SHARE * len(own))]
            rows.append(own[surest])
            labels += [label] * len(surest)
        joined = torch.tensor(labels, dtype=torch.long)
        grown = torch.cat([shots[0], features[torch.cat(rows)]]), torch.cat([shots[1], joined])
        rule = adapted_rule(grown, text_weights, classes, logit_scale, balance)
    return rule
