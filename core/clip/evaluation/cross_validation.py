"""Networks that are trained as the published one is, without the pictures that they are then asked about."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from core.clip.checks.estimate import CV_BUDGET, TRAINING_COST
from core.clip.config import AdaptConfig
from core.clip.data.images import ImageLimits
from core.clip.data.splits import make_folds
from core.clip.evaluation.predictions import SIBLING_CURVE, Candidates, HeldOutPredictions, predict
from core.clip.inference.prototypes import PrototypeClassifier
from core.clip.models.backbone import Backbone, tower_parameters
from core.clip.training.progress import Reporter, parts
from core.clip.training.trainer import fine_tune
from core.clip.weights.delta import encode
from core.clip.weights.files import Weights
from core.clip.weights.support_set import SHOTS_KEPT, SUPPORT_ALPHAS, encode_support_set


def steps_of(pictures: int, config: AdaptConfig) -> int:
    """Optimiser steps of a training with so many pictures."""
    return config.epochs * math.ceil(pictures / config.batch_size)


def effort_of(pictures: int, config: AdaptConfig) -> float:
    """Of a training with so many pictures, in pictures that are looked at once."""
    return TRAINING_COST * config.epochs * pictures


def cross_validation_cost(labels: Sequence[int], config: AdaptConfig) -> float:
    """Of all of them, questions included."""
    return sum(sum(of_one) for of_one in _efforts(len(labels), make_folds(labels, config.seed), config))


def _efforts(pictures: int, folds: Sequence[Sequence[int]], config: AdaptConfig) -> list[tuple[float, float]]:
    """For each sibling: to train it, and to ask it at each α but 0, what it keeps of its shots included."""
    shorter = replace(config, epochs=_epochs(pictures, folds, config))
    return [
        (
            effort_of(pictures - len(fold), shorter),
            (len(SUPPORT_ALPHAS) - 1) * min(SHOTS_KEPT, pictures - len(fold))
            + (len(SIBLING_CURVE) - 1) * len(fold),
        )
        for fold in folds
    ]


def _epochs(pictures: int, folds: Sequence[Sequence[int]], config: AdaptConfig) -> int:
    """Of each sibling, within the budget; where there is none, of little consequence."""
    learned = sum(pictures - len(fold) for fold in folds)
    return min(config.epochs, max(1, round(CV_BUDGET * config.epochs * pictures / max(1, learned))))


def _as_far(config: AdaptConfig, pictures: int, kept: int, epochs: int, number: int) -> AdaptConfig:
    """Fewer pictures and epochs make fewer steps. Each is that much larger, so that a sibling gets as far
    from the backbone as the published network: with AdamW a step is as long as its learning rate."""
    shorter = replace(config, epochs=epochs, seed=(config.seed + 1 + number) % 2**63)
    fewer = steps_of(pictures, config) / steps_of(kept, shorter)

    def larger(learning_rate: float) -> float:
        return min(1.0, fewer * learning_rate)

    text = config.text_learning_rate
    return replace(
        shorter,
        learning_rate=larger(config.learning_rate),
        text_learning_rate=None if text is None else larger(text),
        classifier_learning_rate=larger(config.classifier_learning_rate),
    )


def cross_validate(
    backbone: Backbone,
    folds: Sequence[Sequence[int]],
    sources: Sequence[bytes | Path],
    pictures: Sequence[Tensor],
    features: Tensor,
    labels: Sequence[int],
    candidates: Candidates,
    config: AdaptConfig,
    *,
    alpha: float,
    reporter: Reporter,
    limits: ImageLimits = ImageLimits(),
) -> HeldOutPredictions:
    """Train one network for each fold on all pictures but those of the fold, and ask it about these.

    Nothing of it is checkpointed: a training that is cut off begins its siblings again.

    Args:
        folds: for each sibling which pictures it is not trained on (`folds.make_folds`).
        sources: N training pictures as files, which is how the service is asked.
        pictures: the same, read: uint8 [3, H, W].
        features: [N, D], of the stock network.

    Raises: as `fine_tune` and `predict`.
    """
    asked_parts = []
    epochs = _epochs(len(sources), folds, config)
    efforts = [effort for of_one in _efforts(len(sources), folds, config) for effort in of_one]
    of_parts = parts(reporter, efforts, steps=False)  # their steps are not the model's
    for number, fold in enumerate(folds):
        out = set(fold)
        kept = [i for i in range(len(sources)) if i not in out]
        kept_pictures, kept_labels = [pictures[i] for i in kept], [labels[i] for i in kept]
        trained = fine_tune(
            backbone,
            kept_pictures,
            kept_labels,
            candidates.texts[: candidates.trained],
            _as_far(config, len(sources), len(kept), epochs, number),
            of_parts[2 * number],
        )
        delta = encode(tower_parameters(backbone.model), trained.theta_1, config.weights)
        shots = encode_support_set(backbone, delta, kept_pictures, kept_labels, features[kept])
        asked = list(fold)
        answered = predict(
            backbone,
            Weights(delta, shots),
            candidates,
            PrototypeClassifier(shots.features[0].float(), shots.labels),
            [sources[i] for i in asked],
            [labels[i] for i in asked],
            asked,
            alpha=alpha,
            curve=SIBLING_CURVE,
            stock_features=features[asked],
            curve_pictures=len(asked),
            reporter=of_parts[2 * number + 1],
            limits=limits,
        )
        asked_parts.append(replace(answered, learned_from=len(kept)))
    return HeldOutPredictions.joined(asked_parts)
