"""A classifier without training: what the frozen backbone makes of the shots, added to its prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from core.clip.inference.class_offsets import NEW_CLASS_BALANCE, class_offsets

TEXT_COUNTS_AS = 1.0
"""Images. By evidence: "Preview" in benchmarks/README.md."""


@dataclass(frozen=True)
class PrototypeClassifier:
    """The shots of an adaptation as the stock backbone sees them."""

    features: Tensor
    """[N, D], normalised (`zero_shot.image_features`)."""
    labels: Tensor
    """[N], indices of the trained classes."""

    def build_classifier(self, text_weights: Tensor, classes: Sequence[int]) -> Tensor:
        """The classifier [C, D] of the names that are asked for: for a new name its text features, and for
        a trained one the normalised text_c + n / (n + 1) (prototype_c − mean prototype), with n shots.

        A prototype is the normalised mean of the features of a class's shots. Features of images lie away
        from those of prompts, all in one direction (W. Liang et al., "Mind the Gap", NeurIPS 2022, arXiv
        2203.02053): without their mean, prototypes tell the classes apart and draw no image to the trained
        names as such.

        Args:
            text_weights: [C, D], normalised.
            classes: for each name its trained class, or `balance.NEW`.
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
        """[N, C] of images [N, D] with the classifier_weights of the names, and what is to be taken off each of the C
        names before they are compared, as from an adapted model (`balance.class_offsets`)."""
        classifier_weights = self.build_classifier(text_weights, classes)
        offsets = class_offsets(self.features, self.labels, classifier_weights, classes, balance)
        return image_features @ classifier_weights.T, offsets
