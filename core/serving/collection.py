"""Collections of images by their features, for POST /classify/collection."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.inference.request_rule import RequestRule
from core.clip.inference.self_training import self_trained
from core.errors import ClipCiteError
from core.serving.texts import HeldModel, RequestClassifier

MIN_IMAGES, MIN_IMAGES_PER_CLASS, MIN_CLASS_SHARE = 100, 20, 0.5
"""Images, their mean per class name, and the part of that mean that must be predicted for each class.

With fewer images, or without those of a class, self-training loses (benchmarks/pages/requests.md).
"""
MAX_SHOTS = 8
"""Training images per class above which it does not gain."""
SELF_TRAINED = "The model was trained on all class names: the surer images count as training images here."


class WrongFeatures(ClipCiteError):
    code = "invalid_features"
    status = 422


@dataclass(frozen=True)
class Features:
    """Features [N, D] of a collection as they were sent."""

    rows: NDArray[np.float16]
    suggest: int = 0
    """Number of images to suggest for labelling."""
    labelled: frozenset[int] = frozenset()
    """Positions of images that are not suggested."""

    def __len__(self) -> int:
        return len(self.rows)


def rule_or_reason(
    features: Tensor, classifier: RequestClassifier, model: HeldModel, balance: float
) -> RequestRule | str:
    """Return the rule after self-training, or the reason why each image is classified alone.

    Args:
        features: [N, D], normalised.

    Raises:
        WrongFeatures: they are not of this model.
    """
    sent, needed = features.shape[1], classifier.text_features.shape[1]
    if sent != needed:
        raise WrongFeatures(
            f"The features have {sent} numbers each, and those of this model have {needed}. Send the "
            "`features` that POST /classify returned for the same model and alpha."
        )
    names, classes, served = classifier.names, classifier.classes, model.served
    least = max(MIN_IMAGES, MIN_IMAGES_PER_CLASS * len(names))
    if model.preview is not None:
        return "The model is not trained yet, and its instant preview answers image by image."
    if served.shots is None:
        return "There are no features of training images, as in every pre-trained model and at alpha 0."
    if NEW_CLASS in classes:
        new = names[classes.index(NEW_CLASS)]
        return f"The model was not trained on {new!r}. A collection helps only among trained classes."
    if len(names) == 1:
        return "There is only one class name."
    if classifier.rule.among_trained is None:
        return "The scores use no training images: new_class_balance is 0, or a class has none."
    if len(served.shots[1]) > MAX_SHOTS * len(served.shots[1].unique()):
        return f"With more than {MAX_SHOTS} training images per class a collection does not help."
    if len(features) < least:
        return (
            f"{len(features)} images are too few. With these class names a collection helps from {least} on."
        )
    counts = classifier.rule.scores(features).argmax(dim=1).bincount(minlength=len(names))
    if counts.min() < MIN_CLASS_SHARE * len(features) / len(names):
        few = f"Only {int(counts.min())} images look like {names[int(counts.argmin())]!r}."
        return f"{few} A collection helps if it has about equally many images of each class."
    scale = served.backbone.logit_scale
    return self_trained(served.shots, classifier.text_features, classes, features, scale, balance)
