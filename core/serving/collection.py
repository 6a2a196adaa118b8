"""Collections of images by their features, for POST /classify/collection: a pile and its labels."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.clip.inference import pile
from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.inference.prototypes import PrototypeClassifier
from core.clip.inference.request_rule import RequestRule, request_rule, without_prior
from core.clip.inference.self_training import self_trained
from core.clip.prompts import same_class
from core.errors import ClipCiteError
from core.serving.texts import HeldModel, RequestClassifier

MIN_CLASS_SHARE = 0.5
"""Part of the mean number of images per class name that must be predicted for each class.

Without images of a class self-training loses (benchmarks/pages/pile.md).
"""
SELF_TRAINED = "The model was trained on all class names: the surer images count as training images here."


class WrongFeatures(ClipCiteError):
    code = "invalid_features"
    status = 422


class WrongLabels(ClipCiteError):
    code = "invalid_labels"
    status = 422


class NothingToCompare(ClipCiteError):
    """`reject` without a training image."""

    code = "no_training_images"
    status = 422

    def __init__(self) -> None:
        super().__init__(
            "reject compares images with training images, and the pre-trained model has none. Use a trained "
            "model, or label images of a collection."
        )


@dataclass(frozen=True)
class Features:
    """Features [N, D] of a collection as they were sent, and what is asked of them."""

    rows: NDArray[np.float16]
    suggest: int = 0
    """Number of images to suggest for labelling."""
    groups: int = 0
    """Number of groups to return."""
    labels: Mapping[int, str | None] = field(default_factory=dict)
    """Class name of an image by its position; None is "none of these"."""

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Shots:
    """Training images of a request's model, and the images of the collection that have a label."""

    features: Tensor
    """[S, D], the training images first."""
    labels: Tensor
    """[S], class."""
    trained: int
    """Number of training images."""
    none: Tensor
    """[M, D], images that a person marked as none of the classes."""
    classes: list[int]
    """Class per name. A new name with a label has one of its own; without it is NEW_CLASS."""

    def rule(self, model: HeldModel, text_features: Tensor, balance: float) -> RequestRule:
        """Return the rule of the request: labels count like training images, and nothing is trained."""
        shots = self.features, self.labels
        if model.served.shots is None:
            return PrototypeClassifier(*shots).rule(text_features, self.classes, balance)
        rule = request_rule(shots, text_features, self.classes, balance)
        return without_prior(rule, model.served.shots[1], self.classes, model.served.backbone.logit_scale)

    def support(self) -> pile.Support:
        """Return the images of the requested classes, as `pile` takes them."""
        asked = torch.isin(self.labels, torch.tensor(self.classes))
        labels = torch.cat([self.labels[asked], torch.full((len(self.none),), pile.NONE)])
        features = torch.cat([self.features[asked], self.none])
        # Labelled images alone set the limit of a model without training images.
        trained = int(asked[: self.trained].sum()) or None
        return pile.Support(features.numpy(), labels.numpy(), trained)


def shots_of(model: HeldModel, classifier: RequestClassifier, collection: Features, rows: Tensor) -> Shots:
    """Return the training images of a model with the labelled images [N, D] of a collection.

    Raises:
        WrongLabels: a label is none of the class names.
    """
    features, labels = model.shots or (rows[:0], torch.empty(0, dtype=torch.long))
    column = {same_class(name): i for i, name in enumerate(classifier.names)}
    given = {
        at: None if name is None else column.get(same_class(name), -1)
        for at, name in collection.labels.items()
    }
    if unknown := [at for at, label in given.items() if label == -1]:
        raise WrongLabels(
            f"{collection.labels[unknown[0]]!r} in `labels` is none of the class names. Add it to "
            "`class_names`."
        )
    classes = list(classifier.classes)
    free = 1 + max([NEW_CLASS, *classes, *labels.tolist()])
    for label in dict.fromkeys(label for label in given.values() if label is not None):
        if classes[label] == NEW_CLASS:
            classes[label], free = free, free + 1
    labelled = [at for at, label in given.items() if label is not None]
    added = torch.tensor([classes[given[at] or 0] for at in labelled], dtype=torch.long)
    none = [at for at, label in given.items() if label is None]
    return Shots(
        torch.cat([features, rows[labelled]]), torch.cat([labels, added]), len(features), rows[none], classes
    )


def check_features(features: Tensor, width: int) -> None:
    """Raise WrongFeatures unless features [N, D] have this width."""
    if features.shape[1] != width:
        raise WrongFeatures(
            f"The features have {features.shape[1]} numbers each, and those of this model have {width}. Send "
            "the `features` that POST /classify returned for the same model and alpha."
        )


def self_training_or_reason(
    features: Tensor,
    classifier: RequestClassifier,
    model: HeldModel,
    shots: Shots,
    rule: RequestRule,
    balance: float,
) -> RequestRule | str:
    """Return the rule after self-training, or the reason why each image is classified alone.

    Args:
        features: [N, D], normalised, of the images that may belong to the classes.
        rule: without self-training.
    """
    names, classes, served = classifier.names, shots.classes, model.served
    if model.preview is not None:
        return "The model is not trained yet, and its instant preview answers image by image."
    if served.shots is None:
        return "The pre-trained model answers image by image, with the labels that were sent."
    if NEW_CLASS in classes:
        return f"The model was not trained on {names[classes.index(NEW_CLASS)]!r}."
    if len(names) == 1:
        return "There is only one class name."
    if rule.among_trained is None:
        return "The scores use no training images: new_class_balance is 0, or a class has none."
    counts = rule.scores(features).argmax(dim=1).bincount(minlength=len(names))
    if counts.min() < max(1, MIN_CLASS_SHARE * len(features) / len(names)):
        few = f"Only {int(counts.min())} images look like {names[int(counts.argmin())]!r}."
        return f"{few} Self-training helps if there are about equally many images of each class."
    scale = served.backbone.logit_scale
    own = shots.features, shots.labels
    trained = self_trained(own, classifier.text_features, classes, features, scale, balance)
    return without_prior(trained, served.shots[1], classes, scale)
