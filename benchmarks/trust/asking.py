"""Predictions of the model and the stock model on the large test set.

Scores are stored instead of features, which are a hundred times larger.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.accuracy.harness import Trial
from clipcite.types.images import Image
from core.clip.config import AdaptConfig
from core.clip.evaluation.predictions import balanced_scores
from core.clip.models.backbone import Backbone, tower_parameters, with_parameters
from core.clip.models.features import batches, build_zero_shot_classifier, image_features
from core.clip.pipeline import Adapted
from core.clip.prompts import Candidates

AMONG = "among "


def score_test_images(
    backbone: Backbone, adapted: Adapted, more: Sequence[str], trial: Trial, config: AdaptConfig
) -> dict[str, NDArray[Any]]:
    """Return arrays for T test images, with K trained classes followed by the new classes `more`.

    Returns:
        truth [T]: labels.
        class_names: the columns of "among A".
        named_A [T, 2]: the best trained class and the best of all classes, for A = 0 and the served α.
        alone [T, K]: scores of the trained classes at the served α.
        "rule in-distribution score" [T]: at that α.
        "among A" [T, K + new]: scores of all classes at this α.
    """
    shots = adapted.weights.shots
    assert shots is not None
    names = (*adapted.class_names, *more)
    known = Candidates.of(names, adapted.class_names, config.templates)
    paths = tuple(example.path for example in trial.data.test)
    arrays: dict[str, NDArray[Any]] = {
        "truth": np.array([names.index(trial.data.class_names[e.label]) for e in trial.data.test], np.uint8),
        "class_names": np.array(names),
    }
    for alpha in sorted({0.0, config.alpha}):
        model = backbone.model
        if alpha:
            theta = adapted.weights.theta(tower_parameters(backbone.model), alpha)
            model = with_parameters(backbone, theta)
        images = _features(model, backbone, paths) if alpha else _stock_features(backbone, paths)
        classifier = build_zero_shot_classifier(model, backbone.tokenize, known.prompts).cpu()
        scores = balanced_scores(images, classifier, shots, alpha, known, backbone.logit_scale)
        arrays[f"named_{alpha}"] = best_names(scores.trained_only, scores.all_classes)
        arrays[f"{AMONG}{alpha}"] = scores.all_classes.astype(np.float32)
        if alpha == config.alpha:
            arrays["alone"] = scores.trained_only.astype(np.float32)
    return arrays


def best_names(alone: NDArray[np.float64], among: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the best class alone and among all, as indices [T, 2]."""
    return np.stack([alone.argmax(axis=1), among.argmax(axis=1)], axis=1).astype(np.uint8)


def _features(model: nn.Module, backbone: Backbone, paths: Sequence[Path]) -> Tensor:
    """Return the features [T, D]."""
    images = [Image(path, "") for path in paths]
    return torch.cat([image_features(model, pixels).cpu() for pixels in batches(backbone, images)])


@lru_cache(maxsize=8)
def _stock_features(backbone: Backbone, paths: tuple[Path, ...]) -> Tensor:
    """Return the features of the stock model, shared by all runs of a data set."""
    return _features(backbone.model, backbone, paths)
