"""FLYP: fine-tune both towers with their pre-training loss.

S. Goyal et al., "Finetune like you pretrain: Improved finetuning of zero-shot vision models", CVPR 2023,
arXiv 2212.00638. The ensemble of its weights and the stock weights: M. Wortsman et al., "Robust
fine-tuning of zero-shot models" (WiSE-FT), CVPR 2022, arXiv 2109.01903.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.methods.common.answerers import TwoTowers
from benchmarks.methods.common.recipes import recipe
from benchmarks.methods.common.task import Predictor, Task
from benchmarks.methods.common.training import crops, fit, mixed, trainable
from core.clip.models.backbone import tower_parameters, with_parameters
from core.clip.models.features import encode_images, encode_tokens
from core.clip.weights.ensemble import interpolate


@dataclass(frozen=True)
class Flyp:
    epochs: int = 20
    batch_size: int = 256
    """Batch size, large enough to hold all images of FLYP's few-shot runs."""
    learning_rate: float = 1e-5
    weight_decay: float = 0.2
    crop_scale: float = 0.9
    alpha: float = 0.5
    """Mixing weight of the ensemble: 0 is the stock model, 1 the fine-tuned one."""


RECIPES = {
    "starter": Flyp(epochs=10, batch_size=32, learning_rate=1e-4),
    "*": Flyp(),
}


def flyp(task: Task, settings: Flyp | None = None) -> dict[str, Predictor]:
    """Fine-tune both towers. Each image is paired with a random prompt of its class.

    The temperature is fixed; FLYP trains it, at a learning rate too small to change it.
    """
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
    """Return CLIP's loss: each other image of the batch is a negative, even one of the same class.

    Args:
        image_features, text_features: [B, D], normalised; rows i are a pair.
    """
    logits = logit_scale * image_features @ text_features.T  # [B, B]
    itself = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, itself) + F.cross_entropy(logits.T, itself)) / 2
