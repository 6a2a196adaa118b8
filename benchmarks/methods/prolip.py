"""ProLIP: fine-tune only the last linear map of the image tower, regularised towards its start.

M. Fahes et al., "CLIP's Visual Embedding Projector is a Few-shot Cornucopia", arXiv 2410.05270.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.methods.common.answerers import TwoTowers, stock_head
from benchmarks.methods.common.recipes import recipe
from benchmarks.methods.common.task import Predictor, Task
from benchmarks.methods.common.training import fit, from_views, frozen_views, trainable
from core.clip.models.backbone import Backbone, tower_parameters, with_parameters


@dataclass(frozen=True)
class ProLip:
    """The variant without a validation set: λ = 1/shots, one learning rate for all data sets."""

    steps: int = 300
    """Number of steps, each over all images."""
    learning_rate: float = 1e-5
    regularisation: float | None = None
    """λ; None means 1 / images per class."""
    views: int = 10
    """Number of crops per image; the paper uses one per step, 300."""
    crop_scale: float = 0.5


RECIPES = {
    "starter": ProLip(learning_rate=1e-3),
    "*": ProLip(),
}


def prolip(task: Task, settings: ProLip | None = None) -> dict[str, Predictor]:
    """Train the projection. The features before it are frozen, so the crops are encoded once.

    Raises:
        ValueError: the image tower does not end in a known projection.
    """
    settings = settings or recipe(RECIPES, task.backbone)
    name, transposed = projection(task.backbone)
    theta_0 = tower_parameters(task.backbone.model)
    start = theta_0[name].detach()
    views = frozen_views(
        task, before_projection(task.backbone), settings.views, settings.crop_scale, flip=True
    )
    head = stock_head(task, task.class_names)
    shots = len(task.labels) / len(task.class_names)
    strength = 1 / shots if settings.regularisation is None else settings.regularisation
    weight = nn.Parameter(start.clone())
    optimizer = torch.optim.Adam([weight], lr=settings.learning_rate, eps=1e-4)

    def loss(features: Tensor, labels: Tensor) -> Tensor:
        projected = features @ (weight.T if transposed else weight)
        logits = task.backbone.logit_scale * F.normalize(projected, dim=-1) @ head.T
        return F.cross_entropy(logits, labels) + strength * (weight - start).square().sum()

    fit(
        task,
        optimizer,
        loss,
        from_views(views),
        epochs=settings.steps,
        batch_size=len(task.labels),
    )
    return {"ProLIP": TwoTowers(task, with_parameters(task.backbone, {**theta_0, name: weight.detach()}))}


def projection(backbone: Backbone) -> tuple[str, bool]:
    """Return the parameter name of the projection, and True if its shape is [D, E] as in a linear layer.

    Otherwise the shape is [E, D].

    Raises:
        ValueError: the image tower does not end in a known projection.
    """
    names = tower_parameters(backbone.model).keys()
    if "visual.proj" in names:  # open_clip's own ViTs
        return "visual.proj", False
    if "visual.head.proj.weight" in names and "visual.head.proj.bias" not in names:  # timm's, as the starter
        return "visual.head.proj.weight", True
    raise ValueError(
        f"ProLIP needs a linear projection at the end of the image tower, and {backbone.name} has none."
    )


def before_projection(backbone: Backbone) -> nn.Module:
    """Return the image tower, [B, 3, S, S] to [B, E], with the identity in place of its projection."""
    visual = trainable(backbone).get_submodule("visual")
    name, transposed = projection(backbone)
    weight = visual.get_parameter(name.removeprefix("visual."))
    weight.data = torch.eye(weight.shape[1 if transposed else 0], device=weight.device)
    return visual
