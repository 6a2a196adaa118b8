"""Open-vocabulary classification: any class names, trained or not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from core.clip.backbone import Backbone, tower_parameters, with_parameters
from core.clip.balance import NEW_NAMES_BALANCE, shots_at, trained_names_penalty
from core.clip.ensemble import interpolate
from core.clip.zero_shot import image_features, text_head


@dataclass(frozen=True)
class Scores:
    """`probabilities` [N, C] is the softmax over the given classes, after `penalty` was taken off the
    trained ones; `similarities` [N, C] are the plain cosines."""

    probabilities: Tensor
    similarities: Tensor
    penalty: float = 0.0


class Classifier:
    """A network, at one α, that scores pictures against texts.

    Without `theta_1` it is the stock backbone itself, shared; with it a copy of the backbone that
    holds θ(α). `shot_features`, as `Adapted` has them, serve to balance trained against new names.
    """

    def __init__(
        self,
        backbone: Backbone,
        theta_1: Mapping[str, Tensor] | None = None,
        alpha: float = 0.5,
        shot_features: Tensor | None = None,
    ) -> None:
        self.backbone = backbone
        self.model = backbone.model
        if theta_1 is not None and alpha != 0:
            theta_0 = tower_parameters(backbone.model)
            self.model = with_parameters(backbone, interpolate(theta_0, theta_1, alpha))
        self._shots: Tensor | None = None
        if shot_features is not None and alpha != 0:
            self._shots = shots_at(shot_features.to(backbone.device), alpha)

    def preprocess(self, pictures: Sequence[Image.Image]) -> Tensor:
        """N RGB pictures to [N, 3, S, S] with the backbone's test transform."""
        return torch.stack([self.backbone.preprocess(picture) for picture in pictures])

    def image_features(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] to [N, D]."""
        return image_features(self.model, pixels)

    def text_features(self, texts: Sequence[Sequence[str]]) -> Tensor:
        """For each class its sentences (prompts.class_texts) to the head [C, D]."""
        return text_head(self.model, self.backbone.tokenize, texts)

    def scores(
        self,
        image_features: Tensor,
        text_features: Tensor,
        *,
        trained: Sequence[int] = (),
        balance: float = NEW_NAMES_BALANCE,
    ) -> Scores:
        """[N, D] and [C, D] to probabilities and cosines [N, C], on the CPU.

        Args:
            trained: which of the C classes the model was trained on.
            balance: how much new names are helped against them, see `core.clip.balance`; 0 are the
                paper's scores.
        """
        similarities = image_features @ text_features.T
        penalty = 0.0
        if self._shots is not None:
            penalty = trained_names_penalty(self._shots, text_features, trained, balance)
        adjusted = similarities.clone()
        adjusted[:, list(trained)] -= penalty
        probabilities = (self.backbone.logit_scale * adjusted).softmax(dim=-1)
        return Scores(probabilities.cpu(), similarities.cpu(), penalty)

    def classify(
        self,
        pictures: Sequence[Image.Image],
        texts: Sequence[Sequence[str]],
        *,
        trained: Sequence[int] = (),
        balance: float = NEW_NAMES_BALANCE,
    ) -> Scores:
        """Everything in one: N pictures against C classes."""
        features = self.image_features(self.preprocess(pictures))
        return self.scores(features, self.text_features(texts), trained=trained, balance=balance)
