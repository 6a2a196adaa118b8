"""Open-vocabulary classification: any class names, trained or not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from core.clip.backbone import Backbone, tower_parameters, with_parameters
from core.clip.balance import NEW, NEW_NAMES_BALANCE, KeptShots, name_offsets
from core.clip.ensemble import interpolate
from core.clip.zero_shot import image_features, text_head


@dataclass(frozen=True)
class Scores:
    """`similarities` [N, C] are the plain cosines, `probabilities` [N, C] the softmax over the given
    classes after `offsets` [C] were taken off them."""

    probabilities: Tensor
    similarities: Tensor
    offsets: Tensor


class Classifier:
    """A network, at one α, that scores pictures against texts.

    Without `theta_1` it is the stock backbone itself, shared; with it a copy of the backbone that
    holds θ(α). `shots`, as `Adapted` has them, serve to balance the names.
    """

    def __init__(
        self,
        backbone: Backbone,
        theta_1: Mapping[str, Tensor] | None = None,
        alpha: float = 0.5,
        shots: KeptShots | None = None,
    ) -> None:
        self.backbone = backbone
        self.model = backbone.model
        self._shots: tuple[Tensor, Tensor] | None = None
        if theta_1 is not None and alpha != 0:
            theta_0 = tower_parameters(backbone.model)
            self.model = with_parameters(backbone, interpolate(theta_0, theta_1, alpha))
            if shots is not None:
                self._shots = (shots.at(alpha).to(backbone.device), shots.labels.to(backbone.device))

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
        classes: Sequence[int],
        balance: float = NEW_NAMES_BALANCE,
    ) -> Scores:
        """[N, D] and [C, D] to probabilities and cosines [N, C], on the CPU.

        Args:
            classes: for each of the C names which trained class it is, -1 for a new one
                (`prompts.class_indices`).
            balance: how much new names are helped against trained ones, see `core.clip.balance`; 0 are
                the paper's scores.
        """
        similarities = image_features @ text_features.T
        offsets = similarities.new_zeros(len(text_features))
        if self._shots is not None:
            offsets = name_offsets(*self._shots, text_features, classes, balance)
        probabilities = (self.backbone.logit_scale * (similarities - offsets)).softmax(dim=-1)
        return Scores(probabilities.cpu(), similarities.cpu(), offsets.cpu())

    def classify(
        self,
        pictures: Sequence[Image.Image],
        texts: Sequence[Sequence[str]],
        *,
        classes: Sequence[int] | None = None,
        balance: float = NEW_NAMES_BALANCE,
    ) -> Scores:
        """Everything in one: N pictures against C names, all of them new if `classes` are not given."""
        classes = [NEW] * len(texts) if classes is None else classes
        features = self.image_features(self.preprocess(pictures))
        return self.scores(features, self.text_features(texts), classes=classes, balance=balance)
