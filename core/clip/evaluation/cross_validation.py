"""Cross-validation: fold models are trained like the model and predict the images they did not see."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from core.clip.checks.estimate import CV_BUDGET
from core.clip.config import AdaptConfig
from core.clip.data.header import ImageLimits
from core.clip.evaluation.predictions import Candidates, HeldOutPredictions, predict
from core.clip.inference.prototypes import PrototypeClassifier
from core.clip.models.backbone import Backbone, tower_parameters
from core.clip.training.progress import FoldReporter, Reporter
from core.clip.training.trainer import fine_tune
from core.clip.weights.delta import encode
from core.clip.weights.files import Weights
from core.clip.weights.support_set import encode_support_set, support_shots


def count_steps(images: int, config: AdaptConfig) -> int:
    """Return the number of optimiser steps of a training on `images` images."""
    return config.epochs * math.ceil(images / config.batch_size)


def _epochs(images: int, folds: Sequence[Sequence[int]], config: AdaptConfig) -> int:
    """Return the epochs per fold model, so that all folds stay within `CV_BUDGET`."""
    trained = sum(images - len(fold) for fold in folds)
    return min(config.epochs, max(1, round(CV_BUDGET * config.epochs * images / max(1, trained))))


def _fold_config(config: AdaptConfig, images: int, kept: int, epochs: int, number: int) -> AdaptConfig:
    """Return the settings of one fold model.

    Fewer images and epochs mean fewer steps. The learning rates grow by the same factor, so that the fold
    model moves as far from the backbone as the model: an AdamW step is as long as its learning rate.
    """
    shorter = replace(config, epochs=epochs, seed=(config.seed + 1 + number) % 2**63)
    factor = count_steps(images, config) / count_steps(kept, shorter)

    def scaled(learning_rate: float) -> float:
        return min(1.0, factor * learning_rate)

    text = config.text_learning_rate
    return replace(
        shorter,
        learning_rate=scaled(config.learning_rate),
        text_learning_rate=None if text is None else scaled(text),
        classifier_learning_rate=scaled(config.classifier_learning_rate),
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
    originals: Sequence[int] | None = None,
) -> HeldOutPredictions:
    """Train one fold model per fold on the images outside the fold, and predict those inside but copies.

    Fold models have no checkpoints: an interrupted training starts its fold models again.

    Args:
        folds: indices of the images that each fold model is not trained on (`data.splits.make_folds`).
        sources: N training images as files, decoded as the service decodes them.
        images: the same N images, decoded: uint8 [3, H, W].
        features: [N, D], of the stock model.
        originals: as for `make_folds`.

    Raises:
        ClipCiteError: as for `fine_tune` and `predict`.
    """
    predictions = []
    epochs = _epochs(len(sources), folds, config)
    for number, fold in enumerate(folds):
        fold_reporter = FoldReporter(reporter, number, len(folds))
        out = set(fold)
        kept = [i for i in range(len(sources)) if i not in out]
        kept_images, kept_labels = [images[i] for i in kept], [labels[i] for i in kept]
        trained = fine_tune(
            backbone,
            kept_images,
            kept_labels,
            candidates.prompts[: candidates.trained],
            _fold_config(config, len(sources), len(kept), epochs, number),
            fold_reporter,
        )
        delta = encode(tower_parameters(backbone.model), trained.theta_1, config.delta_format)
        stock_features = features[[kept[i] for i in support_shots(kept_labels)]]
        shots = encode_support_set(backbone, delta, kept_images, kept_labels, stock_features)
        held_out = [i for i in fold if originals is None or originals[i] == i]
        predicted = predict(
            backbone,
            Weights(delta, shots),
            candidates,
            PrototypeClassifier(shots.features[0].float(), shots.labels),
            [sources[i] for i in held_out],
            [labels[i] for i in held_out],
            held_out,
            alpha=alpha,
            stock_features=features[held_out],
            reporter=fold_reporter,
            limits=limits,
        )
        predictions.append(replace(predicted, images_per_fold_model=len(kept)))
    return HeldOutPredictions.concatenate(predictions)
