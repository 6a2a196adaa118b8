"""What an adaptation has changed where nothing was trained, along α."""

from collections.abc import Sequence
from dataclasses import dataclass

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
    """One α against the stock network."""

    alpha: float
    text_similarity: float
    """Mean cosine of the text features of 50 of ImageNet's names with those of the stock network."""


def measure_forgetting(
    backbone: Backbone,
    weights: Weights,
    class_names: Sequence[str],
    templates: Sequence[str],
    reporter: Reporter,
    alphas: Sequence[float] = CURVE,
) -> list[Forgetting]:
    """Of the published network, for each α."""
    prompts = [class_prompts(name, templates) for name in distractor_classes(class_names)]
    stock_head = build_zero_shot_classifier(backbone.model, backbone.tokenize, prompts).cpu()
    kept = []
    for alpha in alphas:
        if reporter.cancelled():
            raise Cancelled("The evaluation was cancelled.")
        if alpha == 0:
            kept.append(Forgetting(0.0, 1.0))
            continue
        network = with_parameters(backbone, weights.theta(tower_parameters(backbone.model), alpha))
        head = build_zero_shot_classifier(network, backbone.tokenize, prompts).cpu()
        reporter.progressed((len(kept) + 1) / len(alphas))
        kept.append(Forgetting(alpha, float((head * stock_head).sum(dim=1).mean())))
    return kept
