"""Open-vocabulary classification with trained and new classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from clipcite.types.classify import NEW_CLASS_BALANCE
from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.inference.request_rule import RequestRule, adapted_rule
from core.clip.models.backbone import Backbone, tower_parameters, with_parameters
from core.clip.models.features import build_zero_shot_classifier, image_features
from core.clip.weights.files import Weights


@dataclass(frozen=True)
class Scores:
    """Scores of N images for C classes."""

    probabilities: Tensor
    """[N, C], softmax of `scores` over the classes."""
    scores: Tensor
    """[N, C], by the rule of the request, in units of the cosine."""
    similarities: Tensor
    """[N, C], plain cosines with the text features."""
    rule: RequestRule

    def with_rows(self, rows: Tensor, other: "Scores") -> "Scores":
        """Return these scores with the n of `other` in some rows [n]."""
        return replace(
            self,
            probabilities=self.probabilities.index_copy(0, rows, other.probabilities),
            scores=self.scores.index_copy(0, rows, other.scores),
            similarities=self.similarities.index_copy(0, rows, other.similarities),
        )


def scored(features: Tensor, text_features: Tensor, rule: RequestRule, logit_scale: float) -> Scores:
    """Return the scores of image features [N, D] and text features [C, D]."""
    scores = rule.scores(features)
    return Scores((logit_scale * scores).softmax(dim=-1), scores, features @ text_features.T, rule)


class Classifier:
    """A model at one α that scores images against prompts.

    Without `weights`, or at α = 0, it shares the backbone's network. Otherwise it has a copy with θ(α), and
    prototypes and class offsets from the support set.
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
                self._shots = (shots.at(alpha), shots.labels)

    def preprocess(self, images: Sequence[Image.Image]) -> Tensor:
        """Convert N RGB images to [N, 3, S, S] with the backbone's test transform."""
        return torch.stack([self.backbone.preprocess(image) for image in images])

    def image_features(self, pixels: Tensor) -> Tensor:
        """Encode preprocessed images [N, 3, S, S] to features [N, D]."""
        return image_features(self.model, pixels)

    def text_features(self, prompts: Sequence[Sequence[str]]) -> Tensor:
        """Return text features [C, D] from the prompts of each class (`prompts.class_prompts`)."""
        return build_zero_shot_classifier(self.model, self.backbone.tokenize, prompts)

    def scores(
        self,
        image_features: Tensor,
        text_features: Tensor,
        *,
        classes: Sequence[int],
        balance: float = NEW_CLASS_BALANCE,
    ) -> Scores:
        """Score images [N, D] against text features [C, D]. Return tensors on the CPU.

        Args:
            classes: trained class of each of the C classes, -1 for a new class
                (`prompts.class_indices`).
            balance: as in `core.clip.inference.request_rule`; 0 gives the paper's scores.
        """
        image_features, text_features = image_features.cpu(), text_features.cpu()
        scale = self.backbone.logit_scale
        rule = adapted_rule(self._shots, text_features, classes, scale, balance)
        return scored(image_features, text_features, rule, scale)

    def classify(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[Sequence[str]],
        *,
        classes: Sequence[int] | None = None,
        balance: float = NEW_CLASS_BALANCE,
    ) -> Scores:
        """Score N images against the prompts of C classes.

        Args:
            classes: as in `scores`; None means that all classes are new.
        """
        classes = [NEW_CLASS] * len(prompts) if classes is None else classes
        features = self.image_features(self.preprocess(images))
        return self.scores(features, self.text_features(prompts), classes=classes, balance=balance)
