"""FT-Probe: plain fine-tuning of the image tower with a classifier, the baseline of CLIP-CITE's paper.

M. Liu, B. Li, Y. Yu, "Fully Fine-tuned CLIP Models are Efficient Few-Shot Learners", arXiv 2407.04003;
the classifier starts as the zero-shot one, as in M. Wortsman et al., "Robust fine-tuning of zero-shot
models", CVPR 2022, arXiv 2109.01903.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.methods.common.answerers import stock_head, trained_columns
from benchmarks.methods.common.recipes import recipe
from benchmarks.methods.common.task import Predictor, Task, Tests
from benchmarks.methods.common.training import crops, fit, mixed, trainable
from core.clip.models.features import encode_images
from core.clip.training.losses import visual_text_alignment


@dataclass(frozen=True)
class FtProbe:
    """CLIP-CITE's recipe; the two methods differ only in their losses and in the text tower."""

    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 5e-6
    classifier_learning_rate: float = 5e-5
    weight_decay: float = 0.01
    crop_scale: float = 0.5


RECIPES = {
    "starter": FtProbe(epochs=10, learning_rate=1e-4, classifier_learning_rate=1e-3),
    "*": FtProbe(),
}


@dataclass(frozen=True)
class ImageTowerAndHead:
    """A predictor that scores trained classes by the classifier, others by the stock text tower."""

    task: Task
    model: nn.Module
    classifier: Tensor  # W [K, D]

    def similarities(self, tests: Tests, class_names: Sequence[str]) -> Tensor:
        return (tests.features(self.model) @ self.head(class_names).T).cpu()

    def head(self, class_names: Sequence[str]) -> Tensor:
        """Return the classifier weights [C, D] of trained and new classes."""
        head = stock_head(self.task, class_names)
        columns, classes = trained_columns(self.task, class_names)
        head[columns] = F.normalize(self.classifier.detach(), dim=-1)[classes]
        return head


def ft_probe(task: Task, settings: FtProbe | None = None) -> dict[str, Predictor]:
    """Train the image tower and W with the cross-entropy alone."""
    settings = settings or recipe(RECIPES, task.backbone)
    device, scale = task.backbone.device, task.backbone.logit_scale
    student = trainable(task.backbone)
    tower = list(student.get_submodule("visual").requires_grad_(True).parameters())
    classifier = nn.Parameter(stock_head(task, task.class_names))
    optimizer = torch.optim.AdamW(
        [
            {"params": tower, "lr": settings.learning_rate, "weight_decay": settings.weight_decay},
            {"params": [classifier], "lr": settings.classifier_learning_rate, "weight_decay": 0.0},
        ],
        fused=True,
    )

    def loss(pixels: Tensor, labels: Tensor) -> Tensor:
        with mixed(device):
            features = encode_images(student, pixels)
        return visual_text_alignment(features, classifier, labels, scale)

    fit(
        task,
        optimizer,
        loss,
        crops(task, settings.crop_scale, flip=False),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
    )
    return {"FT-Probe": ImageTowerAndHead(task, student, classifier)}
