"""CLIP-CITE as its paper prints it, beside the product's recipe.

M. Liu, B. Li, Y. Yu, arXiv 2407.04003 (v1). docs/reference/method.md lists the differences to the product.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.methods.clip_cite import config_of, ensemble, train
from benchmarks.methods.common.task import Method, Predictor, Task
from core.clip.config import AdaptConfig
from core.clip.data.transforms import random_resized_crop
from core.clip.training.trainer import Recipe, cosine

PRINTED_SCL_WEIGHT = 1.4
"""λ = 0.7 for the *sum* of both directions of L_SCL, as weight of the product's L_SCL, their mean."""
WARM_UP_RATE = 1e-5
"""Constant learning rate of the first epoch in SYNC-CLIP, the later public code of the paper's group."""
BATCH_SIZES = {"EuroSAT": 16, "ImageNet": 64}
"""Batch sizes of the paper that differ from the recipe's, 32."""
LABEL = "CLIP-CITE, the paper's recipe"
ChangeOfRecipe = Callable[[Task, AdaptConfig], Recipe]


def supervised_contrastive_as_printed(
    image_features: Tensor, text_features: Tensor, labels: Tensor, logit_scale: float
) -> Tensor:
    """Return L_SCL with the denominators that eq. 4 prints: the classes other than the image's own.

    The positive is not among them, so the gradient on its logit is −1 however high it is. An image without
    negatives contributes 0. The text of the paper calls FLYP the special case without repeated classes, which
    is true of `core.clip.training.losses.supervised_contrastive` alone.

    Args:
        image_features, text_features: [B, D].
        labels: [B].
    """
    logits = logit_scale * image_features @ text_features.T  # [B, B]
    others = labels[:, None] != labels[None, :]
    has_others = others.any(dim=1)
    negatives = logits.masked_fill(~others, float("-inf"))[has_others]
    negatives_of_texts = logits.T.masked_fill(~others, float("-inf"))[has_others]
    positives = logits.diagonal()[has_others]
    directions = (negatives.logsumexp(dim=1) - positives, negatives_of_texts.logsumexp(dim=1) - positives)
    return (directions[0] + directions[1]).sum() / 2 / len(labels)


def flipped_crop(image: Tensor, size: int, crop_scale: float, generator: torch.Generator) -> Tensor:
    """Return a random resized crop, mirrored with probability 0.5."""
    crop = random_resized_crop(image, size, crop_scale, generator)
    return crop.flip(-1) if torch.rand((), generator=generator) < 0.5 else crop


def warm_up(epochs: int, learning_rate: float, step: int, steps: int) -> float:
    """Return the share of the peak learning rate: `WARM_UP_RATE` in the first epoch, then the cosine."""
    return WARM_UP_RATE / learning_rate if step < steps // epochs else cosine(step, steps)


def paper_config(task: Task, **settings: Any) -> AdaptConfig:
    """Return the paper's settings for the backbone of the task.

    Epochs and the towers' learning rate come from the backbone's recipe, the paper's for CLIP
    ViT-B/16. W learns at the same rate, since the paper names one.
    """
    rate = config_of(task).learning_rate
    known = {
        "batch_size": BATCH_SIZES.get(task.data, config_of(task).batch_size),
        "classifier_learning_rate": rate,
        "scl_weight": PRINTED_SCL_WEIGHT,
        "crop_scale": 0.08,  # the default of torchvision's RandomResizedCrop; the paper states none
        "precision": "fp32",
    }
    return config_of(task, **{**known, **settings})


def _arm(
    name: str, change: ChangeOfRecipe = lambda task, config: Recipe(), share_of_epochs: float = 1
) -> Method:
    label = LABEL + (f": {name}" if name else "")

    def method(task: Task) -> dict[str, Predictor]:
        config = paper_config(task, epochs=round(share_of_epochs * config_of(task).epochs))
        theta_1 = train(task, config, change(task, config))
        return {
            label: ensemble(task, theta_1, config.alpha),
            f"{label}, α = 1": ensemble(task, theta_1, 1.0),
        }

    return method


RECIPES: Mapping[str, Method] = {
    "paper": _arm(""),
    "paper-printed": _arm(
        "eq. 4 as printed", lambda task, config: Recipe(contrastive=supervised_contrastive_as_printed)
    ),
    "paper-flip": _arm("mirrored crops", lambda task, config: Recipe(crop=flipped_crop)),
    "paper-warm-up": _arm(
        "one epoch of warm-up",
        lambda task, config: Recipe(schedule=partial(warm_up, config.epochs, config.learning_rate)),
    ),
    "paper-short": _arm("half the epochs", share_of_epochs=0.5),
}
"""The recipe of the paper, and one change each where the paper contradicts itself or leaves a choice open."""
