"""Forgetting: the change of the text features of unrelated classes, by α."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from core.clip.errors import Cancelled
from core.clip.evaluation.predictions import CURVE
from core.clip.models.backbone import Backbone, tower_parameters, with_parameters
from core.clip.models.features import build_zero_shot_classifier
from core.clip.models.imagenet_classes import distractor_classes
from core.clip.prompts import class_prompts
from core.clip.training.progress import Reporter
from core.clip.weights.files import Weights


@dataclass(frozen=True)
class Forgetting:
    """θ(α) at one α, compared with the stock model."""

    alpha: float
    text_similarity: float
    """Mean cosine between the text features of θ(α) and of the stock model, over 50 ImageNet classes."""


def measure_forgetting(
    backbone: Backbone,
    weights: Weights,
    class_names: Sequence[str],
    templates: Sequence[str],
    reporter: Reporter,
    alphas: Sequence[float] = CURVE,
) -> list[Forgetting]:
    """Measure the text similarity of the adapted model with the stock model at each α."""
    prompts = [class_prompts(name, templates) for name in distractor_classes(class_names)]
    done = partial(reporter.done, "prompt")
    stock_weights = build_zero_shot_classifier(backbone.model, backbone.tokenize, prompts, done).cpu()
    points = []
    for alpha in alphas:
        if reporter.cancelled():
            raise Cancelled("The evaluation was cancelled.")
        if alpha == 0:
            points.append(Forgetting(0.0, 1.0))
            continue
        network = with_parameters(backbone, weights.theta(tower_parameters(backbone.model), alpha))
        classifier_weights = build_zero_shot_classifier(network, backbone.tokenize, prompts, done).cpu()
        points.append(Forgetting(alpha, float((classifier_weights * stock_weights).sum(dim=1).mean())))
    return points
