"""Rules of requests, as functions of stored features: the arms of benchmarks/plans/one-rule.md."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.accuracy.encodings import Encodings
from core.clip.inference.class_offsets import NEW_CLASS, NEW_CLASS_BALANCE, class_means, class_offsets
from core.clip.inference.discriminants import linear_discriminants
from core.clip.inference.prototypes import PrototypeClassifier
from core.clip.inference.request_rule import (
    TEXT_COUNTS_AS,
    RequestRule,
    add_prototypes,
    among_trained,
    kind_of,
    request_rule,
)

ALPHA = 0.5
QUANTILES = (0.05, 0.5)
SERVED, SWITCH, GAMMA, GAMMA_SWITCH = "served", "served + switch", "γ ½", "γ ½ + switch"
LEVELS, LEVELS_SWITCH = "whole levels", "whole levels + switch"
PREVIEW, PREVIEW_SWITCH = "preview", "preview + switch"


@dataclass(frozen=True)
class Request:
    """Images [N, D] and names [C, D] of a request, by α, and the trained class of each name."""

    images: Mapping[float, Tensor]
    texts: Mapping[float, Tensor]
    classes: Sequence[int]


Rule = Callable[[Encodings, Request], Tensor]
"""Scores [N, C]."""


def stock(run: Encodings, request: Request) -> Tensor:
    return request.images[0.0] @ request.texts[0.0].T


def paper(run: Encodings, request: Request) -> Tensor:
    return request.images[ALPHA] @ request.texts[ALPHA].T


def served(run: Encodings, request: Request) -> Tensor:
    return _served(run, request).scores(request.images[ALPHA])


def _served(run: Encodings, request: Request) -> RequestRule:
    return request_rule((run.shots[ALPHA], run.shot_labels), request.texts[ALPHA], request.classes)


def whole_levels(run: Encodings, request: Request) -> Tensor:
    rule = _served(run, request)
    if rule.kind == "mixed":
        shots = run.shots[ALPHA], run.shot_labels
        with patch("core.clip.inference.class_offsets.LEVEL_SHARES", {}):
            offsets = class_offsets(*shots, rule.classifier_weights, request.classes, NEW_CLASS_BALANCE)
        rule = replace(rule, offsets=offsets)
    return rule.scores(request.images[ALPHA])


def gate(run: Encodings, request: Request) -> Tensor:
    """Scale all offsets of a mixed request by the image's similarity to the class means at α 0."""
    rule = _served(run, request)
    if rule.kind == "mixed":
        low, high = similarity_to_other_classes(run).quantile(torch.tensor(QUANTILES))
        share = ((similarity_to_classes(run, request) - low) / (high - low)).clamp(0, 1)
        rule = replace(rule, offsets=share[:, None] * rule.offsets)
    return rule.scores(request.images[ALPHA])


def gamma_at(alpha: float) -> Rule:
    def scores(run: Encodings, request: Request) -> Tensor:
        rule = gamma_rule(run.shots[alpha], run.shot_labels, request.texts[alpha], request.classes)
        return rule.scores(request.images[alpha])

    return scores


def preview(run: Encodings, request: Request) -> Tensor:
    rule = PrototypeClassifier(run.shots[0.0], run.shot_labels).rule(request.texts[0.0], request.classes)
    return replace(rule, if_unlike=None).scores(request.images[0.0])


def switched(rule: Rule) -> Rule:
    """Answer images unlike the shots by the pre-trained model, if there are other names than trained ones."""

    def with_switch(run: Encodings, request: Request) -> Tensor:
        scores = rule(run, request)
        if kind_of(request.classes) == "closed":
            return scores
        threshold = similarity_to_other_classes(run).quantile(QUANTILES[0])
        unlike = similarity_to_classes(run, request) < threshold
        return torch.where(unlike[:, None], stock(run, request), scores)

    return with_switch


ARMS: Mapping[str, Rule] = {
    "stock": stock,
    "paper": paper,
    SERVED: served,
    SWITCH: switched(served),
    GAMMA: gamma_at(ALPHA),
    GAMMA_SWITCH: switched(gamma_at(ALPHA)),
    "gate": gate,
    LEVELS: whole_levels,
    LEVELS_SWITCH: switched(whole_levels),
    PREVIEW: preview,
    PREVIEW_SWITCH: switched(preview),
    "preview, γ ½": gamma_at(0.0),
    "preview, γ ½ + switch": switched(gamma_at(0.0)),
}


def shot_means(run: Encodings) -> Tensor:
    """Return the normalised means [K, D] of the classes' shots, at α 0."""
    return F.normalize(class_means(run.shots[0.0], run.shot_labels)[1], dim=-1)


def similarity_to_classes(run: Encodings, request: Request) -> Tensor:
    return (request.images[0.0] @ shot_means(run).T).amax(dim=1)


def similarity_to_other_classes(run: Encodings) -> Tensor:
    """Return the similarity [S] of each shot to the nearest mean of another class, at α 0."""
    similarities = run.shots[0.0] @ shot_means(run).T
    return similarities.scatter(1, run.shot_labels[:, None], -torch.inf).amax(dim=1)


def gamma_rule(shots: Tensor, labels: Tensor, texts: Tensor, classes: Sequence[int]) -> RequestRule:
    """Return the rule with one γ for trained names: half of the left-out shots' median lead."""
    kind = kind_of(classes)
    weights = texts
    offsets = texts.new_zeros(len(texts))
    among = None
    if kind != "untrained":
        weights = add_prototypes(texts, shots, labels, classes, TEXT_COUNTS_AS)
        discriminants = linear_discriminants(shots, labels)
        among = among_trained(texts, weights, shots, labels, discriminants, classes, NEW_CLASS_BALANCE)
    if kind == "closed":
        offsets = class_offsets(shots, labels, weights, classes, NEW_CLASS_BALANCE)
    if kind == "mixed":
        trained = torch.tensor([c != NEW_CLASS for c in classes])
        own = [c for c in classes if c != NEW_CLASS]
        heads = [_left_out(shots, labels, texts[trained], own, i) for i in range(len(shots))]
        best_trained = torch.stack([(head @ shot).max() for head, shot in zip(heads, shots, strict=True)])
        lead = (best_trained - (shots @ texts[~trained].T).amax(dim=1)).clamp(min=0)
        offsets = trained * lead.median() / 2
    return RequestRule(kind, weights, offsets, among)


def _left_out(shots: Tensor, labels: Tensor, texts: Tensor, classes: Sequence[int], shot: int) -> Tensor:
    """Return the weights [K, D] of the trained classes without one shot."""
    others = torch.arange(len(shots)) != shot
    if not others.any():
        return texts
    return add_prototypes(texts, shots[others], labels[others], classes, TEXT_COUNTS_AS)
