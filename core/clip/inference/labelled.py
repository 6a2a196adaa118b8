"""Labelled images beside the training images of a model: they count at once, without a training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.inference.graph import Ints
from core.clip.inference.prototypes import PrototypeClassifier
from core.clip.inference.request_rule import RequestRule, adapted_rule, request_rule
from core.clip.inference.self_training import self_trained

MIN_CLASS_SHARE = 0.5
"""Minimum number of images predicted for a class, as a fraction of the mean per class name.

Self-training loses accuracy if a class has no images (benchmarks/pages/pile.md).
"""
NEW_CLASS_IMAGES = 3
"""Number of labels that a new name needs. Until it has them, its likely images are asked about first."""
SELF_TRAINED = "The more certain images help to sort the others."


@dataclass(frozen=True)
class Sorter:
    """A model and class names."""

    names: Sequence[str]
    texts: Tensor
    """[C, D], normalised text features of the names."""
    classes: Sequence[int]
    """Trained class per name, or NEW_CLASS."""
    trained: tuple[Tensor, Tensor] | None
    """Features [S, D] and classes [S] of the model's training images."""
    logit_scale: float
    balance: float
    alone: str | None = None
    """Why images do not help to sort each other, for people: the network was not trained on images. None:
    they do."""


@dataclass(frozen=True)
class Shots:
    """Training images of a sorter, and images with a label."""

    features: Tensor
    """[S, D], training images first."""
    labels: Tensor
    """[S], classes."""
    trained: int
    """Number of training images."""
    classes: list[int]
    """Class per name. A new name has its own class if an image is labelled with it, else NEW_CLASS."""

    @classmethod
    def of(cls, sorter: Sorter, images: Tensor, labels: Ints) -> "Shots":
        """Add images [N, D] to the training images.

        Args:
            labels: [N], position of the name, NONE or UNSAID.
        """
        features, trained = sorter.trained or (images[:0], torch.empty(0, dtype=torch.long))
        classes = list(sorter.classes)
        free = 1 + max([NEW_CLASS, *classes, *trained.tolist()])
        for column in dict.fromkeys(labels[labels >= 0].tolist()):
            if classes[column] == NEW_CLASS:
                classes[column], free = free, free + 1
        rows = np.flatnonzero(labels >= 0)
        added = torch.tensor([classes[column] for column in labels[rows]], dtype=torch.long)
        return cls(
            torch.cat([features, images[torch.from_numpy(rows)]]),
            torch.cat([trained, added]),
            len(features),
            classes,
        )

    def rule(self, sorter: Sorter) -> RequestRule:
        """Return the rule of the request. Labelled images count as training images."""
        if not len(self.labels):
            return request_rule(None, sorter.texts, self.classes)
        if sorter.alone is not None:
            stock = PrototypeClassifier(self.features, self.labels)
            return stock.rule(sorter.texts, self.classes, sorter.balance)
        own = self.features, self.labels
        return adapted_rule(own, sorter.texts, self.classes, sorter.logit_scale, sorter.balance)

    def missing(self) -> list[int]:
        """Return how many more images each new name needs for a training beside the trained classes."""
        if not self.trained:
            return []
        images = self.labels[:, None] == torch.tensor(self.classes)
        is_new = ~images[: self.trained].any(dim=0)
        return (is_new * (NEW_CLASS_IMAGES - images.sum(dim=0)).clamp(min=0)).tolist()


def self_training_or_reason(
    features: Tensor, sorter: Sorter, shots: Shots, rule: RequestRule
) -> RequestRule | str:
    """Return the rule after self-training, or the reason why each image is classified alone.

    Args:
        features: normalised features [N, D] of the images that may belong to the classes, without labelled
            ones: these are shots already.
        rule: rule without self-training.
    """
    names, classes = sorter.names, shots.classes
    if sorter.alone is not None:
        return sorter.alone
    if NEW_CLASS in classes:
        return f"The model was not trained on {names[classes.index(NEW_CLASS)]!r}."
    if len(names) == 1:
        return "Only one class name was sent."
    if rule.among_trained is None:
        return "The scores use no training images: new_class_balance is 0, or a class has none."
    counts = rule.scores(features).argmax(dim=1).bincount(minlength=len(names))
    counts += (shots.labels[shots.trained :, None] == torch.tensor(classes)).sum(dim=0)
    if counts.min() < max(1, MIN_CLASS_SHARE * int(counts.sum()) / len(names)):
        fewest = int(counts.min())
        few = f"Only {fewest} image{'s look' if fewest > 1 else ' looks'}" if fewest else "No image looks"
        return (
            f"{few} like {names[int(counts.argmin())]!r}. Images help to sort each other only if every class "
            "has about equally many, so here each image is sorted by itself."
        )
    own = shots.features, shots.labels
    return self_trained(own, sorter.texts, classes, features, sorter.logit_scale, sorter.balance)
