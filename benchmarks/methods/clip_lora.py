"""CLIP-LoRA: low-rank additions to the attention of both towers.

M. Zanella, I. Ben Ayed, "Low-Rank Few-Shot Adaptation of Vision-Language Models", CVPR workshops 2024,
arXiv 2405.18541; LoRA: E. Hu et al., ICLR 2022, arXiv 2106.09685.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from benchmarks.methods.common.answerers import TwoTowers
from benchmarks.methods.common.recipes import recipe
from benchmarks.methods.common.task import Predictor, Task
from benchmarks.methods.common.training import crops, fit, mixed, trainable
from core.clip.models.features import encode_images, encode_tokens

PROJECTIONS = {"query", "key", "value", "q_proj", "k_proj", "v_proj"}


@dataclass(frozen=True)
class ClipLora:
    rank: int = 2
    alpha: float = 1.0
    dropout: float = 0.25
    steps_per_shot: int = 500
    """Training steps per image of a class."""
    batch_size: int = 32
    learning_rate: float = 2e-4
    weight_decay: float = 0.01
    crop_scale: float = 0.08


RECIPES = {
    "starter": ClipLora(steps_per_shot=2, learning_rate=1e-2),
    "*": ClipLora(),
}


class LowRank(nn.Module):
    """W + s B A, for a weight of any shape whose first axis is the output.

    The weight may hold several stacked matrices (q, k and v), each with its own A and B. B starts at 0, so
    the weight is unchanged at first. In training mode dropout zeroes inputs of A, chosen once per step; the
    original chooses per token.
    """

    def __init__(self, weight: Tensor, matrices: int, settings: ClipLora) -> None:
        super().__init__()
        outputs, inputs = weight.shape[0] // matrices, weight[0].numel()
        bound = 1 / math.sqrt(inputs)
        self.a = nn.Parameter(weight.new_empty(matrices, settings.rank, inputs).uniform_(-bound, bound))
        self.b = nn.Parameter(weight.new_zeros(matrices, outputs, settings.rank))
        self.scale = settings.alpha / math.sqrt(settings.rank)  # divided by the root, as in the authors' code
        self.dropout = settings.dropout

    def forward(self, weight: Tensor) -> Tensor:
        kept = F.dropout(torch.ones_like(self.a[:, :1]), self.dropout, self.training)  # [matrices, 1, inputs]
        addition: Tensor = self.scale * self.b @ (self.a * kept)  # [matrices, outputs, inputs]
        return weight + addition.reshape(weight.shape)


def clip_lora(task: Task, settings: ClipLora | None = None) -> dict[str, Predictor]:
    """Minimise the cross-entropy over the trained classes with the first template, as the authors' code."""
    settings = settings or recipe(RECIPES, task.backbone)
    backbone, device = task.backbone, task.backbone.device
    student = trainable(backbone)
    tokens = backbone.tokenize([prompts[0] for prompts in task.prompts(task.class_names)]).to(device)
    steps = settings.steps_per_shot * len(task.labels) / len(task.class_names)
    batches = math.ceil(len(task.labels) / settings.batch_size)

    with torch.random.fork_rng():  # dropout takes no generator
        torch.manual_seed(task.seed)
        additions = add_lora(student, settings)
        optimizer = torch.optim.AdamW(
            additions.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

        def loss(pixels: Tensor, labels: Tensor) -> Tensor:
            # Cached: attention reads its weight several times, and all reads of a step share one dropout.
            with parametrize.cached(), mixed(device):
                image_features = encode_images(student, pixels)
                text_features = encode_tokens(student, tokens)
            return F.cross_entropy(backbone.logit_scale * image_features @ text_features.T, labels)

        fit(
            task,
            optimizer,
            loss,
            crops(task, settings.crop_scale, flip=True),
            epochs=math.ceil(steps / batches),
            batch_size=settings.batch_size,
        )
    additions.eval()
    merge_lora(student)
    return {"CLIP-LoRA": TwoTowers(task, student)}


def add_lora(model: nn.Module, settings: ClipLora) -> nn.ModuleList:
    """Add LoRA to both towers. Only the additions are in training mode and require gradients."""
    additions = nn.ModuleList()
    text = getattr(model, "text", None) or model.get_submodule("transformer")
    for tower in (model.get_submodule("visual"), text):
        for module, name, matrices in list(_adapted_weights(tower)):
            weight = module.get_parameter(name)
            addition = LowRank(weight.detach(), matrices, settings)
            parametrize.register_parametrization(module, name, addition)
            additions.append(addition)
    return additions.train()


def merge_lora(model: nn.Module) -> None:
    """Replace each parametrised weight by its value, so that the network is a plain one again."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)


def _adapted_weights(tower: nn.Module) -> Iterator[tuple[nn.Module, str, int]]:
    """Yield (module, parameter, number of stacked matrices) for the q, k and v projections.

    A tower without attention (the starter's EfficientNet) yields its 1x1 convolutions and linear layers.
    """
    found = False
    for path, module in tower.named_modules():
        name = path.rpartition(".")[2]
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            found = True
            yield module, "in_proj_weight", 3
        elif isinstance(module, nn.Linear) and (name in PROJECTIONS or name == "qkv"):
            found = True
            yield module, "weight", 3 if name == "qkv" else 1
    if not found:
        for module in tower.modules():
            pointwise = isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1
            if pointwise or isinstance(module, nn.Linear):
                yield module, "weight", 1
