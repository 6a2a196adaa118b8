"""Tip-Adapter-F: a cache of the training images' features, whose keys are fine-tuned.

R. Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification", ECCV 2022,
arXiv 2207.09519.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.methods.common.answerers import stock_head, trained_columns
from benchmarks.methods.common.recipes import recipe
from benchmarks.methods.common.task import Predictor, Task, Tests
from benchmarks.methods.common.training import fit, from_views, frozen_views, trainable
from core.clip.models.features import encode_images


@dataclass(frozen=True)
class TipAdapter:
    alpha: float = 1.0
    """Weight of the cache against the zero-shot logits."""
    beta: float = 5.5
    """Sharpness: a key at cosine s adds exp(-beta (1 - s)).

    alpha and beta are the paper's starting values. Its search for better ones needs a validation set.
    """
    epochs: int = 20
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    views: int = 10
    """Number of crops per image: a key starts as their mean, and each epoch trains on the next crop."""
    crop_scale: float = 0.5


RECIPES = {
    "starter": TipAdapter(learning_rate=1e-2),
    "*": TipAdapter(),
}


@dataclass(frozen=True)
class Cache:
    task: Task
    settings: TipAdapter
    keys: Tensor  # [N, D]

    def similarities(self, tests: Tests, class_names: Sequence[str]) -> Tensor:
        """Return zero-shot scores, plus the cache's votes for trained classes."""
        features = tests.stock_features
        scores = features @ stock_head(self.task, class_names).T  # [N, C]
        columns, classes = (t.to(scores.device) for t in trained_columns(self.task, class_names))
        votes = self.votes(features, self.keys.detach())
        scores[:, columns] += votes[:, classes] / self.task.backbone.logit_scale
        return scores.cpu()

    def votes(self, features: Tensor, keys: Tensor) -> Tensor:
        """Return the cache's logits [B, K] of the trained classes for images [B, D]."""
        labels = torch.tensor(self.task.labels, device=features.device)
        values = F.one_hot(labels, len(self.task.class_names)).float()  # [N, K]
        affinity = torch.exp(-self.settings.beta * (1 - features @ keys.T))  # [B, N]
        return self.settings.alpha * affinity @ values


def tip_adapter(task: Task, settings: TipAdapter | None = None) -> dict[str, Predictor]:
    """Train the keys only. The crops are encoded once; the original draws new ones in each epoch."""
    settings = settings or recipe(RECIPES, task.backbone)
    encode = partial(encode_images, trainable(task.backbone))
    views = frozen_views(task, encode, settings.views, settings.crop_scale, flip=True)  # [V, N, D]
    keys = nn.Parameter(F.normalize(views.mean(dim=0), dim=-1))
    head = stock_head(task, task.class_names)
    cache = Cache(task, settings, keys)
    optimizer = torch.optim.AdamW(
        [keys], lr=settings.learning_rate, eps=1e-4, weight_decay=settings.weight_decay
    )

    def loss(features: Tensor, labels: Tensor) -> Tensor:
        zero_shot = task.backbone.logit_scale * features @ head.T
        return F.cross_entropy(zero_shot + cache.votes(features, keys), labels)

    fit(
        task,
        optimizer,
        loss,
        from_views(views),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
    )
    return {"Tip-Adapter-F": cache}
