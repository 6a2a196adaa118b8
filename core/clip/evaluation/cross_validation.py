"""Networks that are trained as the published one is, without the images that they are then asked about."""

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


def steps_of(images: int, config: AdaptConfig) -> int:
    """Optimiser steps of a training with so many images."""
    return config.epochs * math.ceil(images / config.batch_size)


def effort_of(images: int, config: AdaptConfig) -> float:
    """Of a training with so many images, in images that are looked at once."""
    return TRAINING_COST * config.epochs * images


def cross_validation_cost(labels: Sequence[int], config: AdaptConfig) -> float:
    """Of all of them, questions included."""
    return sum(sum(of_one) for of_one in _efforts(len(labels), make_folds(labels, config.seed), config))


def _efforts(images: int, folds: Sequence[Sequence[int]], config: AdaptConfig) -> list[tuple[float, float]]:
    """For each sibling: to train it, and to ask it at each α but 0, what it keeps of its shots included."""
    shorter = replace(config, epochs=_epochs(images, folds, config))
    return [
        (
            effort_of(images - len(fold), shorter),
            (len(SUPPORT_ALPHAS) - 1) * min(SHOTS_KEPT, images - len(fold))
            + (len(SIBLING_CURVE) - 1) * len(fold),
        )
        for fold in folds
    ]


def _epochs(images: int, folds: Sequence[Sequence[int]], config: AdaptConfig) -> int:
    """Of each sibling, within the budget; where there is none, of little consequence."""
    learned = sum(images - len(fold) for fold in folds)
    return min(config.epochs, max(1, round(CV_BUDGET * config.epochs * images / max(1, learned))))


def _as_far(config: AdaptConfig, images: int, kept: int, epochs: int, number: int) -> AdaptConfig:
    """Fewer images and epochs make fewer steps. Each is that much larger, so that a sibling gets as far
    from the backbone as the published network: with AdamW a step is as long as its learning rate."""
    shorter = replace(config, epochs=epochs, seed=(config.seed + 1 + number) % 2**63)
    fewer = steps_of(images, config) / steps_of(kept, shorter)

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
    images: Sequence[Tensor],
    features: Tensor,
    labels: Sequence[int],
    candidates: Candidates,
    config: AdaptConfig,
    *,
    alpha: float,
    reporter: Reporter,
    limits: ImageLimits = ImageLimits(),
) -> HeldOutPredictions:
    """Train one network for each fold on all images but those of the fold, and ask it about these.

    Nothing of it is checkpointed: a training that is cut off begins its siblings again.

    Args:
        folds: for each sibling which images it is not trained on (`folds.make_folds`).
        sources: N training images as files, which is how the service is asked.
        images: the same, read: uint8 [3, H, W].
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
        kept_images, kept_labels = [images[i] for i in kept], [labels[i] for i in kept]
        trained = fine_tune(
            backbone,
            kept_images,
            kept_labels,
            candidates.prompts[: candidates.trained],
            _as_far(config, len(sources), len(kept), epochs, number),
            of_parts[2 * number],
        )
        delta = encode(tower_parameters(backbone.model), trained.theta_1, config.delta_format)
        shots = encode_support_set(backbone, delta, kept_images, kept_labels, features[kept])
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
            curve_images=len(asked),
            reporter=of_parts[2 * number + 1],
            limits=limits,
        )
        asked_parts.append(replace(answered, learned_from=len(kept)))
    return HeldOutPredictions.joined(asked_parts)
