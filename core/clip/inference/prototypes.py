"""The instant preview: a classifier without training, from prompts and the features of the shots."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from clipcite.types.classify import NEW_CLASS_BALANCE
from core.clip.inference.class_offsets import class_offsets
from core.clip.inference.discriminants import linear_discriminants
from core.clip.inference.pile import Foreign, Support
from core.clip.inference.request_rule import RequestRule, StockScores, kind_of, trained_scores

PROMPT_COUNTS_AS = 1.0
"""Weight of the prompt (shots); benchmarks/pages/preflight-and-preview.md has the measurements."""


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

        Other requests get prototypes, and offsets and discriminants as for an adapted model. In a mixed
        request, images unlike the shots get the stock model's scores.

        Args:
            text_weights: [C, D], normalised, from the stock model.
            classes, balance: as in `core.clip.inference.request_rule`.
        """
        kind = kind_of(classes)
        if kind == "untrained" or balance == 0:
            return RequestRule(kind, text_weights, text_weights.new_zeros(len(text_weights)))
        weights, among = trained_scores(
            self.features,
            self.labels,
            text_weights,
            classes,
            balance,
            PROMPT_COUNTS_AS,
            self._discriminants,
        )
        offsets = class_offsets(self.features, self.labels, weights, classes, balance)
        foreign = self._foreign if kind == "mixed" else None
        if_unlike = None
        if foreign is not None:
            if_unlike = StockScores(
                torch.from_numpy(foreign.means), torch.tensor(foreign.limit), text_weights
            )
        return RequestRule(kind, weights, offsets, among, if_unlike)

    @cached_property
    def _foreign(self) -> Foreign | None:
        """Detector of images unlike anything trained. None with a single class."""
        return Foreign.of(Support(self.features.numpy(), self.labels.numpy()))

    @cached_property
    def _discriminants(self) -> tuple[Tensor, Tensor] | None:
        """The linear discriminants of the shots, cached because they take most of the time of `rule`."""
        return linear_discriminants(self.features, self.labels, untrained=True)
