"""Candidate rules of inference, scored from stored features (`benchmarks.accuracy.encodings`).

A rule says how the scores [N, C] of a request come from features: the strength α, whether trained classes
have prototypes, and the offsets that are subtracted. The product's own rule is `core.clip.inference`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from core.clip.inference.class_offsets import NEW_CLASS, NEW_CLASS_BALANCE, class_offsets
from core.clip.inference.prototypes import PrototypeClassifier
from core.clip.inference.request_rule import request_rule
from core.clip.weights.support_set import support_shots

Offsets = Literal["none", "levels", "gamma", "gamma_left_out", "rise"]


@dataclass(frozen=True)
class Rule:
    """Scoring of a request."""

    alpha: float
    prototypes: float = 0.0
    """Weight of the prototypes of trained classes."""
    text_counts_as: float = 1.0
    """Number of shots that the text of a class counts as, against its prototype."""
    offsets: Offsets = "none"
    balance: float = 0.0
    served: bool = False
    """The product's own rule at its default balance, but for `whole_from`; at α 0 that of the instant
    preview.
    """
    whole_from: int = 1
    """With `served`, number of trained classes from which levels count in full; fewer count in proportion."""

    @property
    def label(self) -> str:
        if self.served:
            share = f", whole levels from {self.whole_from} classes" if self.whole_from > 1 else ""
            return f"served{'' if self.alpha else ' preview'}{share}"
        parts = [f"α {self.alpha}"]
        if self.prototypes:
            parts.append(f"prototypes {self.prototypes}")
            if self.text_counts_as != 1:
                parts[-1] += f" · n/(n + {self.text_counts_as:g})"
        if self.offsets != "none":
            parts.append(f"{self.offsets.replace('_', ' ')} {self.balance}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Support:
    """Features of the shots at each α, as a model stores them (`core.clip.weights.support_set`)."""

    features: Mapping[float, Tensor]
    labels: Tensor

    @classmethod
    def of(cls, features: Mapping[float, Tensor], labels: Tensor) -> "Support":
        chosen = support_shots(labels.tolist())
        return cls({alpha: rows[chosen] for alpha, rows in features.items()}, labels[chosen])


def scores(
    rule: Rule,
    images: Mapping[float, Tensor],
    texts: Mapping[float, Tensor],
    support: Support,
    classes: Sequence[int],
) -> Tensor:
    """Return the scores [N, C] of images with the candidate classes, in units of the cosine.

    Args:
        images, texts: features [N, D] and [C, D] by α.
        classes: trained class of each candidate, or NEW_CLASS.
    """
    shots, labels = support.features[rule.alpha], support.labels
    weights = texts[rule.alpha]
    if rule.served:
        served = (
            request_rule((shots, labels), weights, classes)
            if rule.alpha
            else PrototypeClassifier(shots, labels).rule(weights, classes)
        )
        if served.kind == "mixed":
            shares = {count: count / rule.whole_from for count in range(1, rule.whole_from)}
            offsets = class_offsets(
                shots, labels, served.classifier_weights, classes, NEW_CLASS_BALANCE, shares
            )
            served = replace(served, offsets=offsets)
        return served.scores(images[rule.alpha])
    if rule.prototypes:
        weights = with_prototypes(weights, shots, labels, classes, rule.prototypes, rule.text_counts_as)
    return images[rule.alpha] @ weights.T - offsets_of(rule, weights, texts, support, classes)


def with_prototypes(
    texts: Tensor,
    shots: Tensor,
    labels: Tensor,
    classes: Sequence[int],
    weight: float,
    text_counts_as: float = 1.0,
) -> Tensor:
    """Return normalise(text_c + weight · n/(n + text_counts_as) · (prototype_c − mean prototype)).

    New classes keep their text.
    """
    present = labels.unique()
    own = labels[None, :] == present[:, None]  # [K, S]
    counts = own.sum(dim=1, keepdim=True)
    prototypes = F.normalize(own.float() @ shots / counts, dim=-1)
    moves = weight * counts / (counts + text_counts_as) * (prototypes - prototypes.mean(dim=0))
    place = {label: i for i, label in enumerate(present.tolist())}
    rows = [moves[place[c]] if c in place else torch.zeros_like(moves[0]) for c in classes]
    return F.normalize(texts + torch.stack(rows), dim=-1)


def offsets_of(
    rule: Rule, weights: Tensor, texts: Mapping[float, Tensor], support: Support, classes: Sequence[int]
) -> Tensor:
    """Return the offsets [C].

    levels: the mean cosine with shots of other classes, and a share of the median margin.
    gamma: a share of the median margin by which the shots prefer trained classes to new ones, for trained
        classes alone.
    gamma_left_out: the same, each shot left out of the prototype of its class.
    rise: as levels, with the rise of a name's level over the pre-trained model instead of the level.
    """
    shots, labels = support.features[rule.alpha], support.labels
    if rule.offsets == "none" or rule.balance == 0:
        return weights.new_zeros(len(weights))
    if rule.offsets == "levels":
        return class_offsets(shots, labels, weights, classes, rule.balance, {})
    trained = torch.tensor(classes) != NEW_CLASS
    offsets = weights.new_zeros(len(weights))
    if rule.offsets == "rise":
        rise = levels(shots, labels, weights, classes) - levels(
            support.features[0.0], labels, texts[0.0], classes
        )
        offsets = min(1.0, 2 * rule.balance) * rise
    if trained.any() and not trained.all():
        cosines = shots @ weights.T - offsets
        best = cosines[:, trained].amax(dim=1)
        if rule.offsets == "gamma_left_out" and rule.prototypes:
            best = _best_left_out(rule, texts[rule.alpha], shots, labels, classes)
        margins = best - cosines[:, ~trained].amax(dim=1)
        offsets = offsets + trained * rule.balance * margins.median().clamp(min=0)
    return offsets


def levels(shots: Tensor, labels: Tensor, weights: Tensor, classes: Sequence[int]) -> Tensor:
    """Return the mean cosine [C] of each name with the shots of other classes, weighted by class."""
    present = labels.unique()
    means = torch.stack([shots[labels == label].mean(dim=0) for label in present])
    others = (present[:, None] != torch.tensor(classes)[None, :]).float()
    mean: Tensor = (means @ weights.T * others).sum(dim=0) / others.sum(dim=0).clamp(min=1)
    return mean


def _best_left_out(
    rule: Rule, texts: Tensor, shots: Tensor, labels: Tensor, classes: Sequence[int]
) -> Tensor:
    """Return [S]: the best trained score of each shot, left out of the prototype of its own class."""
    trained = [i for i, c in enumerate(classes) if c != NEW_CLASS]
    own_class = [classes[i] for i in trained]
    weight = (rule.prototypes, rule.text_counts_as)
    cosines = shots @ with_prototypes(texts[trained], shots, labels, own_class, *weight).T
    present = labels.unique()
    mean = F.normalize(torch.stack([shots[labels == c].mean(dim=0) for c in present]), dim=-1).mean(dim=0)
    for i, label in enumerate(labels.tolist()):
        others = (labels == label) & (torch.arange(len(labels)) != i)
        n = int(others.sum())
        move = torch.zeros_like(mean)
        if n:  # the only shot of a class leaves its text alone
            move = (
                rule.prototypes
                * n
                / (n + rule.text_counts_as)
                * (F.normalize(shots[others].mean(0), dim=-1) - mean)
            )
        for column, c in enumerate(own_class):
            if c == label:
                cosines[i, column] = F.normalize(texts[trained[column]] + move, dim=-1) @ shots[i]
    return cosines.amax(dim=1)


def today(alpha: float = 0.5) -> Rule:
    """Return the rule of benchmarks/plans/three-kinds-of-request.md's time, the same for all requests."""
    return Rule(alpha, offsets="levels", balance=0.35)


STOCK = Rule(0.0)
PAPER = Rule(0.5)
SERVED = Rule(0.5, served=True)
"""The rule of benchmarks/plans/discriminants.md, with whole levels."""
WITH_PROTOTYPES = Rule(0.5, prototypes=1.0, text_counts_as=3.0, offsets="levels", balance=0.35)
WITH_GAMMA = replace(WITH_PROTOTYPES, offsets="gamma_left_out", balance=0.5)
"""The rules of closed and of mixed requests in benchmarks/plans/three-kinds-confirmed.md."""
PREVIEW = Rule(0.0, served=True)
PREVIEW_WITH_PROTOTYPES = Rule(0.0, prototypes=1.0, offsets="levels", balance=0.35)
STRENGTHS = (0.5, 1.0)
BALANCES = (0.2, 0.35, 0.5, 0.7)


def closed_rules() -> list[Rule]:
    """Return the rules for a request of trained classes alone."""
    plain = [Rule(alpha) for alpha in STRENGTHS]
    prototypes = [replace(rule, prototypes=w) for rule in plain for w in (0.5, 1.0, 2.0)]
    return [today(), *plain, *prototypes, *(replace(r, offsets="levels", balance=0.35) for r in prototypes)]


def mixed_rules() -> list[Rule]:
    """Return the rules for a request of trained and new classes."""
    rules = [STOCK, *(Rule(alpha, prototypes=w) for alpha in STRENGTHS for w in (0.0, 1.0))]
    for rule in rules[1:]:
        kinds: list[Offsets] = ["levels", "gamma", "rise", *(["gamma_left_out"] if rule.prototypes else [])]  # type: ignore[list-item]
        rules += [replace(rule, offsets=kind, balance=b) for kind in kinds for b in BALANCES]
    return rules


def foreign_rules() -> list[Rule]:
    """Return the rules for a request without a trained class."""
    return [STOCK, *(Rule(alpha) for alpha in STRENGTHS), today(), Rule(0.5, offsets="rise", balance=0.35)]


def nearness(new: Tensor, trained: Tensor) -> float:
    """Return how near new classes are to the trained ones, relative to how near those are to each other.

    Args:
        new, trained: text features [C, D] of the pre-trained model.
    """
    among = trained @ trained.T
    among.fill_diagonal_(-1)
    return float((new @ trained.T).amax(dim=1).mean() - among.amax(dim=1).mean())
