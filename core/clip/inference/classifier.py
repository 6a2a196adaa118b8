"""Open-vocabulary classification: any class names, trained or not."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from core.clip.inference.class_offsets import NEW_CLASS, NEW_CLASS_BALANCE, class_offsets
from core.clip.models.backbone import Backbone, tower_parameters, with_parameters
from core.clip.models.features import build_zero_shot_classifier, image_features
from core.clip.weights.files import Weights


@dataclass(frozen=True)
class Scores:
    """`similarities` [N, C] are the plain cosines, `probabilities` [N, C] the softmax over the given
    classes after `offsets` [C] were taken off them."""

    probabilities: Tensor
    similarities: Tensor
    offsets: Tensor


def scored(similarities: Tensor, offsets: Tensor, logit_scale: float) -> Scores:
    """Cosines [N, C], and what is to be taken off them [C], with their probabilities."""
    return Scores((logit_scale * (similarities - offsets)).softmax(dim=-1), similarities, offsets)


class Classifier:
    """A network, at one α, that scores images against prompts.

    Without `weights` it is the stock backbone itself, shared; with them a copy of the backbone that
    holds θ(α), and the kept shots balance the names.
    """

    def __init__(self, backbone: Backbone, weights: Weights | None = None, alpha: float = 0.5) -> None:
        self.backbone = backbone
        self.model = backbone.model
        self._shots: tuple[Tensor, Tensor] | None = None
        if weights is not None and alpha != 0:
            theta = weights.theta(tower_parameters(backbone.model), alpha)
            self.model = with_parameters(backbone, theta)
            if weights.shots is not None:
                shots = weights.shots
                self._shots = (shots.at(alpha).to(backbone.device), shots.labels.to(backbone.device))

    def preprocess(self, images: Sequence[Image.Image]) -> Tensor:
        """N RGB images to [N, 3, S, S] with the backbone's test transform."""
        return torch.stack([self.backbone.preprocess(image) for image in images])

    def image_features(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] to [N, D]."""
        return image_features(self.model, pixels)

    def text_features(self, prompts: Sequence[Sequence[str]]) -> Tensor:
        """For each class its sentences (prompts.class_prompts) to the head [C, D]."""
        return build_zero_shot_classifier(self.model, self.backbone.tokenize, prompts)

    def scores(
        self,
        image_features: Tensor,
        text_features: Tensor,
        *,
        classes: Sequence[int],
        balance: float = NEW_CLASS_BALANCE,
    ) -> Scores:
        """[N, D] and [C, D] to probabilities and cosines [N, C], on the CPU.

        Args:
            classes: for each of the C names which trained class it is, -1 for a new one
                (`prompts.class_indices`).
            balance: how much new names are helped against trained ones, see
            `core.clip.inference.class_offsets`; 0 are the paper's scores.
        """
        similarities = image_features @ text_features.T
        offsets = similarities.new_zeros(len(text_features))
        if self._shots is not None:
            offsets = class_offsets(*self._shots, text_features, classes, balance)
        return scored(similarities.cpu(), offsets.cpu(), self.backbone.logit_scale)

    def classify(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[Sequence[str]],
        *,
        classes: Sequence[int] | None = None,
        balance: float = NEW_CLASS_BALANCE,
    ) -> Scores:
        """Everything in one: N images against C names, all of them new if `classes` are not given."""
        classes = [NEW_CLASS] * len(prompts) if classes is None else classes
        features = self.image_features(self.preprocess(images))
        return self.scores(features, self.text_features(prompts), classes=classes, balance=balance)
