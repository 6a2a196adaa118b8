"""Cross-validation: fold models are trained like the model and predict the images that they did not see."""

import math
from collections.abc import Sequence
from dataclasses import replace

from core.clip.checks.estimate import CV_BUDGET, FORWARD
from core.clip.config import AdaptConfig
from core.clip.evaluation.context import EvalContext
from core.clip.evaluation.predictions import HeldOutPredictions, predict
from core.clip.models.backbone import tower_parameters, with_parameters
from core.clip.models.features import build_zero_shot_classifier
from core.clip.prompts import Candidates
from core.clip.training.progress import FoldReporter, Reporter
from core.clip.training.trainer import fine_tune
from core.clip.weights.delta import encode
from core.clip.weights.files import Weights
from core.clip.weights.support_set import encode_support_set, support_shots


def count_steps(images: int, config: AdaptConfig) -> int:
    """Return the number of optimiser steps of a training on `images` images."""
    return config.epochs * math.ceil(images / config.batch_size)


def _fold_config(config: AdaptConfig, images: int, kept: int, epochs: int, number: int) -> AdaptConfig:
    """Return the settings of one fold model.

    Fewer images and epochs mean fewer steps. The learning rates grow by the same factor, so that the fold
    model moves as far from the backbone as the model: the length of an AdamW step is its learning rate.
    """
    shorter = config.model_copy(update={"epochs": epochs, "seed": (config.seed + 1 + number) % 2**63})
    factor = count_steps(images, config) / count_steps(kept, shorter)

    def scaled(learning_rate: float) -> float:
        return min(1.0, factor * learning_rate)

    text = config.text_learning_rate
    return shorter.model_copy(
        update={
            "learning_rate": scaled(config.learning_rate),
            "text_learning_rate": None if text is None else scaled(text),
            "classifier_learning_rate": scaled(config.classifier_learning_rate),
        }
    )


def cross_validate(
    context: EvalContext, folds: Sequence[Sequence[int]], candidates: Candidates, reporter: Reporter
) -> HeldOutPredictions:
    """Train one fold model per fold on the images outside the fold, and predict those inside.

    Fold models have no checkpoints: an interrupted training restarts its fold models.

    Args:
        folds: indices of the images that each fold model is not trained on (`data.splits.make_folds`).

    Raises:
        ExpectedError: as for `fine_tune` and `predict`.
    """
    backbone, trained, config = context.backbone, context.trained, context.config
    theta_0 = tower_parameters(backbone.model)
    stock_texts = build_zero_shot_classifier(backbone.model, backbone.tokenize, candidates.prompts).cpu()
    predictions = []
    total = len(trained.labels)
    seen = sum(total - len(fold) for fold in folds)  # training images of all fold models
    epochs = min(config.epochs, max(1, round(CV_BUDGET * config.epochs * total / max(1, seen))))
    # Each image outside a fold is trained on and encoded once, each image inside is encoded once.
    work = [((epochs + FORWARD) * (total - len(fold)), FORWARD * len(fold)) for fold in folds]
    all_work = sum(map(sum, work))
    for number, fold in enumerate(folds):
        before, own = sum(map(sum, work[:number])), work[number]
        fold_reporter = FoldReporter(reporter, before / all_work, own[0] / all_work, own[1] / all_work)
        kept = sorted({*range(total)} - {*fold})
        images, labels = [trained.pixels[i] for i in kept], [trained.labels[i] for i in kept]
        theta_1 = fine_tune(
            backbone,
            images,
            labels,
            candidates.prompts[: candidates.trained],
            _fold_config(config, total, len(kept), epochs, number),
            fold_reporter,
        )
        delta = encode(theta_0, theta_1, config.delta_format)
        stock_features = trained.stock_features[[kept[i] for i in support_shots(labels)]]
        network = with_parameters(backbone, delta.theta(theta_0, config.alpha))
        support_set = encode_support_set(
            *(backbone, delta, images, labels, stock_features),
            up_to=config.alpha,
            networks={config.alpha: network},
        )
        predicted = predict(
            context,
            Weights(delta, support_set),
            candidates,
            [trained.images[i] for i in fold],
            [trained.labels[i] for i in fold],
            [trained.positions[i] for i in fold],
            fold_reporter,
            network=network,
            stock_features=trained.stock_features[fold],
            stock_texts=stock_texts,
        )
        del network  # the next fold model needs the memory
        predictions.append(replace(predicted, images_per_fold_model=len(set(trained.photos[kept]))))
    return HeldOutPredictions.concatenate(predictions)
