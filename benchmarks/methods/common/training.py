"""Training of the compared methods: augmented images, and one loop over shuffled batches."""

import copy
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from benchmarks.methods.common.task import Task
from core.clip.data.transforms import random_resized_crop, to_pixels
from core.clip.errors import TrainingDiverged
from core.clip.models.backbone import Backbone
from core.clip.models.device import mixed_precision
from core.clip.training.conv_bn import fuse_conv_bn
from core.clip.training.trainer import cosine

VIEWS_BATCH_SIZE = 16  # nearly twice as fast as 64 on CPUs

Source = Callable[[int, Tensor], Tensor]
"""Input of a step: (epoch from 0, indices [B] of the task's images) to pixels [B, 3, S, S] or features
[B, D], on the CPU or the device."""


def fit(
    task: Task,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[Tensor, Tensor], Tensor],
    source: Source,
    *,
    epochs: int,
    batch_size: int,
) -> None:
    """Minimise `loss(inputs, labels)` over `epochs` passes, with cosine annealing per step.

    Each epoch has a new order, split into batches whose sizes differ by at most one. A thread reads the next
    batch during a step.

    Raises:
        TrainingDiverged: the loss is no longer finite.
    """
    device = task.backbone.device
    labels = torch.tensor(task.labels)
    generator = torch.Generator().manual_seed(task.seed)
    batches = math.ceil(len(labels) / batch_size)
    plan = [
        (epoch, indices)
        for epoch in range(epochs)
        for indices in torch.randperm(len(labels), generator=generator).tensor_split(batches)
    ]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(step, max(len(plan), 1)))
    with ThreadPoolExecutor(max_workers=1) as thread:
        ahead = [thread.submit(source, *step) for step in plan[:1]]
        for step, (_, indices) in enumerate(plan, start=1):
            inputs = ahead.pop().result()
            ahead = [thread.submit(source, *following) for following in plan[step : step + 1]]
            value = loss(inputs.to(device), labels[indices].to(device))
            if not torch.isfinite(value):
                raise TrainingDiverged(f"The loss became {value.item()} at step {step} of {len(plan)}.")
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            schedule.step()


def trainable(backbone: Backbone) -> nn.Module:
    """Return a copy of the network for training, in eval mode and without gradients.

    BatchNorm is fused into the convolutions, as in the product: faster, and the same function.
    """
    model = copy.deepcopy(backbone.model)
    fuse_conv_bn(model, backbone.image_size)
    return model


def crops(task: Task, crop_scale: float, *, flip: bool) -> Source:
    """Return a source of random resized crops, drawn again at each access, to train the image tower.

    Args:
        crop_scale: minimum share of an image that a crop covers.
        flip: mirror each crop with probability 0.5.
    """
    generator = torch.Generator().manual_seed(task.seed + 1)

    def source(epoch: int, indices: Tensor) -> Tensor:
        return _pixels(task, indices, crop_scale, flip, generator)

    return source


def frozen_views(
    task: Task, encode: Callable[[Tensor], Tensor], views: int, crop_scale: float, *, flip: bool
) -> Tensor:
    """Return features [V, N, D] of `views` random crops of each image.

    For methods that never train `encode` ([B, 3, S, S] to [B, D]): encoding is nearly all of their time.
    """
    source = crops(task, crop_scale, flip=flip)
    device = task.backbone.device
    chunks = torch.arange(len(task.tensors)).split(VIEWS_BATCH_SIZE)
    with torch.no_grad():
        return torch.stack(
            [torch.cat([encode(source(view, chunk).to(device)) for chunk in chunks]) for view in range(views)]
        )


def from_views(features: Tensor) -> Source:
    """Return a source that cycles through the views [V, N, D], one per epoch."""
    return lambda epoch, indices: features[epoch % len(features), indices.to(features.device)]


def mixed(device: torch.device) -> torch.autocast:
    """Return the product's autocast, without fp16, which would need a gradient scaler."""
    dtype = mixed_precision("auto", device)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is torch.bfloat16)


def _pixels(task: Task, indices: Tensor, crop_scale: float, flip: bool, generator: torch.Generator) -> Tensor:
    """Return crops [B, 3, S, S]."""
    backbone = task.backbone
    parts = [
        random_resized_crop(task.tensors[i], backbone.image_size, crop_scale, generator)
        for i in indices.tolist()
    ]
    pixels = to_pixels(torch.stack(parts), backbone.mean, backbone.std)
    pixels = pixels.contiguous(memory_format=torch.channels_last)  # the layout that encode_images expects
    if not flip:
        return pixels
    mirrored = torch.rand(len(pixels), generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)
