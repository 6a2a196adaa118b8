"""Open-vocabulary classification: any class names, trained or not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from core.clip.backbone import Backbone, tower_parameters, with_parameters
from core.clip.ensemble import interpolate
from core.clip.zero_shot import image_features, text_head


@dataclass(frozen=True)
class Scores:
    """`probabilities` [N, C] is the softmax over the given classes, `similarities` [N, C] the cosines."""

    probabilities: Tensor
    similarities: Tensor


class Classifier:
    """A network, at one α, that scores pictures against texts.

    Without `theta_1` it is the stock backbone itself, shared; with it a copy of the backbone that
    holds θ(α).
    """

    def __init__(
        self, backbone: Backbone, theta_1: Mapping[str, Tensor] | None = None, alpha: float = 0.5
    ) -> None:
        self.backbone = backbone
        self.model = backbone.model
        if theta_1 is not None and alpha != 0:
            theta_0 = tower_parameters(backbone.model)
            self.model = with_parameters(backbone, interpolate(theta_0, theta_1, alpha))

    def preprocess(self, pictures: Sequence[Image.Image]) -> Tensor:
        """N RGB pictures to [N, 3, S, S] with the backbone's test transform."""
        return torch.stack([self.backbone.preprocess(picture) for picture in pictures])

    def image_features(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] to [N, D]."""
        return image_features(self.model, pixels)

    def text_features(self, texts: Sequence[Sequence[str]]) -> Tensor:
        """For each class its sentences (prompts.class_texts) to the head [C, D]."""
        return text_head(self.model, self.backbone.tokenize, texts)

    def scores(self, image_features: Tensor, text_features: Tensor) -> Scores:
        """[N, D] and [C, D] to probabilities and cosines [N, C], on the CPU."""
        similarities = image_features @ text_features.T
        probabilities = (self.backbone.logit_scale * similarities).softmax(dim=-1)
        return Scores(probabilities.cpu(), similarities.cpu())

    def classify(self, pictures: Sequence[Image.Image], texts: Sequence[Sequence[str]]) -> Scores:
        """Everything in one: N pictures against C classes."""
        return self.scores(self.image_features(self.preprocess(pictures)), self.text_features(texts))
