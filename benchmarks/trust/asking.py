"""What a model, the stock network and the preview say of the large test set: answers and scores, which take
a hundredth of the features that they are made of."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.accuracy.harness import Trial
from benchmarks.trust.rejection import rejections
from core.clip.config import AdaptConfig
from core.clip.evaluation.predictions import Candidates, balanced_scores, cosine_scores, preview_scores
from core.clip.inference.prototypes import PrototypeClassifier
from core.clip.models.backbone import Backbone, tower_parameters, with_parameters
from core.clip.models.features import batches, build_zero_shot_classifier, image_features
from core.clip.models.imagenet_classes import distractor_classes
from core.clip.pipeline import Adapted
from core.clip.prompts import class_prompts

RULE, AMONG = "rule ", "among "


def asked(
    backbone: Backbone, adapted: Adapted, more: Sequence[str], trial: Trial, config: AdaptConfig
) -> dict[str, NDArray[Any]]:
    """Of T test images, with K trained names and the new names `more` of the other half after them:

    truth [T]
    named_A, named_preview [T, 2]: the best of the trained names, and of all; A: 0 and its own
    alone [T, K]: what the trained names are ranked by at the α at which the model is served
    "rule NAME" [T]: by which an image of none of the trained names might be told, at that α
    new_cosine [T]: with the best new name, less its offset
    "among A" [T, K + new]: what all of the `class_names` are ranked by at this α
    """
    shots = adapted.weights.shots
    assert shots is not None
    names = (*adapted.class_names, *more)
    prompts = tuple(
        tuple(class_prompts(name, config.templates)) for name in (*names, *distractor_classes(names))
    )
    known = Candidates(names, len(adapted.class_names), prompts[: len(names)])
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
        head = build_zero_shot_classifier(model, backbone.tokenize, prompts).cpu()
        of_names = head[: len(names)]
        if alpha == 0:
            answers = cosine_scores(images, of_names, known)
            preview = preview_scores(
                PrototypeClassifier(shots.features[0], shots.labels), images, of_names, known
            )
            arrays["named_preview"] = best_names(preview.trained_only, preview.all_classes)
        else:
            answers = balanced_scores(images, of_names, shots, alpha, known)
        arrays[f"named_{alpha}"] = best_names(answers.trained_only, answers.all_classes)
        arrays[f"{AMONG}{alpha}"] = answers.all_classes.astype(np.float32)
        if alpha == config.alpha:
            arrays["alone"] = answers.trained_only.astype(np.float32)
            scores, new_cosine = rejections(images, head, shots.at(alpha), shots.labels, known, backbone)
            arrays["new_cosine"] = new_cosine.astype(np.float32)
            arrays.update({RULE + rule: score.astype(np.float32) for rule, score in scores.items()})
    return arrays


def best_names(alone: NDArray[np.float64], among: NDArray[np.float64]) -> NDArray[np.uint8]:
    """[T, 2], indices."""
    return np.stack([alone.argmax(axis=1), among.argmax(axis=1)], axis=1).astype(np.uint8)


def _features(model: nn.Module, backbone: Backbone, paths: Sequence[Path]) -> Tensor:
    """[T, D]."""
    return torch.cat([image_features(model, pixels).cpu() for pixels in batches(backbone, paths)])


@lru_cache(maxsize=8)
def _stock_features(backbone: Backbone, paths: tuple[Path, ...]) -> Tensor:
    """The same for all runs of a data set."""
    return _features(backbone.model, backbone, paths)
