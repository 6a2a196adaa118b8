"""The instant preview: a classifier without training, from prompts and the features of the shots."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from core.clip.inference.class_offsets import NEW_CLASS_BALANCE, class_means, class_offsets
from core.clip.inference.discriminants import linear_discriminants
from core.clip.inference.request_rule import RequestRule, StockAnswer, kind_of, trained_scores

TEXT_COUNTS_AS = 1.0
"""Weight of the prompt (shots); benchmarks/pages/preflight-and-preview.md has the measurements."""
UNLIKE_QUANTILE = 0.05
"""Quantile of each shot's similarity to the other classes; benchmarks/pages/decisions.md has the decision."""


@dataclass(frozen=True)
class PrototypeClassifier:
    """Features of the shots from the stock model."""

    features: Tensor
    """[N, D], normalised (`models.features.image_features`)."""
    labels: Tensor
    """[N], indices of the trained classes."""

    def rule(
        self,
        text_weights: Tensor,
        classes: Sequence[int],
        balance: float = NEW_CLASS_BALANCE,
    ) -> RequestRule:
        """Return the rule of a request. An untrained request, or balance 0, gets the stock model's scores.

        All others get prototypes, and offsets and discriminants as for an adapted model. In a mixed request,
        the stock model answers images unlike the shots.

        Args:
            text_weights: [C, D], normalised, from the stock model.
            classes, balance: as in `core.clip.inference.request_rule`.
        """
        kind = kind_of(classes)
        if kind == "untrained" or balance == 0:
            return RequestRule(kind, text_weights, text_weights.new_zeros(len(text_weights)))
        shots = self.features, self.labels
        weights, among = trained_scores(
            *shots, text_weights, classes, balance, TEXT_COUNTS_AS, self._discriminants
        )
        offsets = class_offsets(*shots, weights, classes, balance)
        bound = self._bound if kind == "mixed" else None
        if_unlike = None if bound is None else StockAnswer(*bound, text_weights)
        return RequestRule(kind, weights, offsets, among, if_unlike)

    @cached_property
    def _bound(self) -> tuple[Tensor, Tensor] | None:
        """The means [K, D] of the classes, and the similarity below which an image is unlike the shots.

        It is a quantile of the shots' similarities to the nearest other class. None with a single class.
        """
        present, means = class_means(self.features, self.labels)
        if len(present) < 2:
            return None
        means = F.normalize(means, dim=-1)
        own = (self.labels[:, None] == present).float().argmax(dim=1, keepdim=True)
        others = (self.features @ means.T).scatter(1, own, -torch.inf).amax(dim=1)
        return means, others.quantile(UNLIKE_QUANTILE)

    @cached_property
    def _discriminants(self) -> tuple[Tensor, Tensor] | None:
        """The linear discriminants of the shots, kept because they take most of the time of `rule`."""
        return linear_discriminants(self.features, self.labels)
