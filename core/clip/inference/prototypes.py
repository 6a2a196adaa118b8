"""The instant preview: a classifier without training, from prompts and class prototypes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from core.clip.inference.class_offsets import NEW_CLASS_BALANCE, class_offsets

TEXT_COUNTS_AS = 1.0
"""Weight of the prompt (shots); benchmarks/pages/preflight-and-preview.md has the measurements."""


@dataclass(frozen=True)
class PrototypeClassifier:
    """Features of the shots from the stock model."""

    features: Tensor
    """[N, D], normalised (`models.features.image_features`)."""
    labels: Tensor
    """[N], indices of the trained classes."""

    def build_classifier(self, text_weights: Tensor, classes: Sequence[int]) -> Tensor:
        """Return the classifier weights [C, D] of the candidate classes.

        A new class keeps its text features. A trained class with n shots gets the normalised
        text_c + n / (n + 1) (prototype_c − mean prototype).

        A prototype is the normalised mean feature of a class's shots. Image features are shifted from text
        features in a common direction (W. Liang et al., "Mind the Gap", NeurIPS 2022, arXiv 2203.02053).
        Without their mean, prototypes separate the classes and do not favour trained classes in general.

        Args:
            text_weights: [C, D], normalised.
            classes: trained class of each candidate, or NEW_CLASS.
        """
        present = self.labels.unique().tolist()
        means = torch.stack([self.features[self.labels == label].mean(dim=0) for label in present])
        prototypes = F.normalize(means, dim=-1)  # [K, D]
        counts = torch.stack([(self.labels == label).sum() for label in present])[:, None]  # [K, 1]
        moves = counts / (counts + TEXT_COUNTS_AS) * (prototypes - prototypes.mean(dim=0))
        move_of = dict(zip(present, moves, strict=True))
        classifier_weights = text_weights.clone()
        for row, label in enumerate(classes):
            if label in move_of:
                classifier_weights[row] += move_of[label]
        return F.normalize(classifier_weights, dim=-1)

    def cosines(
        self,
        image_features: Tensor,
        text_weights: Tensor,
        classes: Sequence[int],
        balance: float = NEW_CLASS_BALANCE,
    ) -> tuple[Tensor, Tensor]:
        """Return cosines [N, C] of images [N, D] with the classifier weights, and class offsets [C].

        The offsets are those of `core.clip.inference.class_offsets`, as for an adapted model.
        """
        classifier_weights = self.build_classifier(text_weights, classes)
        offsets = class_offsets(self.features, self.labels, classifier_weights, classes, balance)
        return image_features @ classifier_weights.T, offsets
