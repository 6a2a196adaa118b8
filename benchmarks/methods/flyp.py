"""FLYP: fine-tune both towers with the loss they were pre-trained with.

S. Goyal et al., "Finetune like you pretrain: Improved finetuning of zero-shot vision models", CVPR 2023,
arXiv 2212.00638. With the ensemble of its weights and the stock ones: M. Wortsman et al., "Robust
fine-tuning of zero-shot models" (WiSE-FT), CVPR 2022, arXiv 2109.01903.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.methods.common.answerers import TwoTowers
from benchmarks.methods.common.recipes import recipe
from benchmarks.methods.common.task import Answerer, Task
from benchmarks.methods.common.training import crops, fit, mixed, trainable
from core.clip.models.backbone import tower_parameters, with_parameters
from core.clip.models.features import encode_images, encode_tokens
from core.clip.weights.ensemble import interpolate


@dataclass(frozen=True)
class Flyp:
    epochs: int = 20
    batch_size: int = 256
    """FLYP's few-shot runs hold all their images in one batch."""
    learning_rate: float = 1e-5
    weight_decay: float = 0.2
    crop_scale: float = 0.9
    alpha: float = 0.5
    """Of the ensemble: 0 is the stock network, 1 the fine-tuned one."""


RECIPES = {
    "starter": Flyp(epochs=10, batch_size=32, learning_rate=1e-4),
    "*": Flyp(),
}


def flyp(task: Task, settings: Flyp | None = None) -> dict[str, Answerer]:
    """Each image is paired with a random sentence of its class. The temperature stays as it was
    (FLYP trains it too, at a learning rate that can't move it)."""
    settings = settings or recipe(RECIPES, task.backbone)
    backbone, device = task.backbone, task.backbone.device
    student = trainable(backbone)
    theta = tower_parameters(student)
    for parameter in theta.values():
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        theta.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    prompts = task.prompts(task.class_names)
    tokens = backbone.tokenize([sentence for of_class in prompts for sentence in of_class]).to(
        device
    )  # [S, L]
    sentences_each = len(task.templates)
    generator = torch.Generator().manual_seed(task.seed + 2)

    def loss(pixels: Tensor, labels: Tensor) -> Tensor:
        drawn = torch.randint(sentences_each, (len(labels),), generator=generator).to(device)
        sentences, of_image = (labels * sentences_each + drawn).unique(return_inverse=True)
        with mixed(device):
            image_features = encode_images(student, pixels)  # [B, D]
            text_features = encode_tokens(student, tokens[sentences])[of_image]  # [B, D], each once
        return contrastive(image_features, text_features, backbone.logit_scale)

    fit(
        task,
        optimizer,
        loss,
        crops(task, settings.crop_scale, flip=False),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
    )
    theta_0, theta_1 = tower_parameters(backbone.model), tower_parameters(student)
    ensemble = with_parameters(backbone, interpolate(theta_0, theta_1, settings.alpha))
    return {"FLYP": TwoTowers(task, student), "FLYP + WiSE-FT": TwoTowers(task, ensemble)}


def contrastive(image_features: Tensor, text_features: Tensor, logit_scale: float) -> Tensor:
    """CLIP's own loss: every other image of the batch is a negative, even one of the same class.

    Args:
        image_features, text_features: [B, D], normalised; row i of both is a pair.
    """
    logits = logit_scale * image_features @ text_features.T  # [B, B]
    itself = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, itself) + F.cross_entropy(logits.T, itself)) / 2
