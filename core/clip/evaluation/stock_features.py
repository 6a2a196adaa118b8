"""Features of images by the stock model."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from core.clip.data.header import ImageLimits
from core.clip.evaluation.context import EvalContext
from core.clip.models.backbone import Backbone
from core.clip.models.features import batches, image_features
from core.clip.training.progress import Reporter
from core.clip.weights.support_set import support_shots


def stock_features(
    backbone: Backbone, sources: Sequence[bytes | Path], limits: ImageLimits, reporter: Reporter
) -> Tensor:
    """Return the features [N, D] of images by the stock model, decoded as the service decodes them."""
    features: list[Tensor] = []
    done = partial(reporter.done, "image")
    for pixels in batches(backbone, sources, limits):
        features.append(image_features(backbone.model, pixels, done).cpu())
    return torch.cat(features)


def stock_features_of_training(context: EvalContext, reporter: Reporter) -> Tensor:
    """Return the features [N, D] of the training images; those of the support set are known."""
    known, trained = context.trained.stock_features, context.trained
    if known is None:
        return stock_features(context.backbone, trained.sources, context.limits, reporter)
    features = known.new_empty(len(trained.sources), known.shape[1])
    chosen = support_shots(trained.labels)
    features[chosen] = known
    rest = sorted(set(range(len(trained.sources))) - set(chosen))
    if rest:
        sources = [trained.sources[i] for i in rest]
        features[rest] = stock_features(context.backbone, sources, context.limits, reporter)
    return features
