"""Forgetting: the change of the text features of untrained classes, by α."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from core.clip.errors import Cancelled
from core.clip.evaluation.predictions import CURVE
from core.clip.models.backbone import Backbone, tower_parameters, with_parameters
from core.clip.models.features import build_zero_shot_classifier
from core.clip.models.imagenet_classes import distractor_classes
from core.clip.prompts import class_prompts
from core.clip.training.progress import Reporter
from core.clip.weights.files import Weights

POOL = 150
"""ImageNet classes among which the nearest and the farthest are chosen."""
GROUP_SIZE = 25
"""Classes of either group."""


@dataclass(frozen=True)
class TextChange:
    """θ(α) at one α, compared with the stock model."""

    alpha: float
    near: float
    """Mean cosine between the text features of θ(α) and of the stock model, over the near classes."""
    far: float


@dataclass(frozen=True)
class Forgetting:
    """Change of the text features of classes that were not trained."""

    near_classes: tuple[str, ...]
    """The ImageNet classes of `POOL` nearest to the trained ones in the stock model's text features."""
    far_classes: tuple[str, ...]
    by_alpha: tuple[TextChange, ...]


def forgetting_prompts(alphas: Sequence[float], templates: Sequence[str]) -> int:
    """Return the number of prompts that `measure_forgetting` encodes."""
    return (POOL + 2 * GROUP_SIZE * sum(alpha != 0 for alpha in alphas)) * len(templates)


def measure_forgetting(
    backbone: Backbone,
    weights: Weights,
    class_names: Sequence[str],
    trained_features: Tensor,
    templates: Sequence[str],
    reporter: Reporter,
    alphas: Sequence[float] = CURVE,
) -> Forgetting:
    """Compare the text features of the adapted model with those of the stock model at each α.

    Args:
        class_names: trained classes.
        trained_features: their text features [K, D] by the stock model.
    """
    pool = distractor_classes(class_names, POOL)
    done = partial(reporter.done, "prompt")
    prompts = [class_prompts(name, templates) for name in pool]
    stock = build_zero_shot_classifier(backbone.model, backbone.tokenize, prompts, done).cpu()
    nearest_first = (stock @ trained_features.T).amax(dim=1).argsort(descending=True).tolist()
    chosen = [*nearest_first[:GROUP_SIZE], *nearest_first[-GROUP_SIZE:]]
    points = []
    for alpha in alphas:
        if reporter.cancelled():
            raise Cancelled("The evaluation was cancelled.")
        if alpha == 0:
            points.append(TextChange(0.0, 1.0, 1.0))
            continue
        network = with_parameters(backbone, weights.theta(tower_parameters(backbone.model), alpha))
        adapted = build_zero_shot_classifier(
            network, backbone.tokenize, [prompts[i] for i in chosen], done
        ).cpu()
        cosines = (adapted * stock[chosen]).sum(dim=1)
        near, far = cosines[:GROUP_SIZE], cosines[GROUP_SIZE:]
        points.append(TextChange(alpha, float(near.mean()), float(far.mean())))
    near_classes, far_classes = (
        tuple(pool[i] for i in rows) for rows in (chosen[:GROUP_SIZE], chosen[GROUP_SIZE:][::-1])
    )
    return Forgetting(near_classes, far_classes, tuple(points))
