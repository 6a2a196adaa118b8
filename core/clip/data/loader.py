"""Training batches: the images of each step and their random crops."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from core.clip.data.images import ImageLimits, open_image
from core.clip.data.transforms import random_resized_crop, to_tensor


def epoch_batches(
    images: int, batches_per_epoch: int, epochs: int, generator: torch.Generator
) -> list[Tensor]:
    """Return the image indices [B] of every step.

    Each epoch has a new order. The batches of an epoch differ in size by at most one image, because a tiny
    last batch would be mostly noise to losses that compare the images of a batch.
    """
    return [
        indices
        for _ in range(epochs)
        for indices in torch.randperm(images, generator=generator).tensor_split(batches_per_epoch)
    ]


def crop_batches(
    images: Sequence[Tensor],
    plan: Sequence[Tensor],
    size: int,
    crop_scale: float,
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (indices [B], crops uint8 [B, 3, S, S]) for every step of the plan.

    A thread prepares the next step while the model trains on the current one. The thread uses a generator of
    its own, so that the training loop and the thread never race for random numbers. At each yield,
    `generator` holds the state from which the crops of the next step are drawn.
    """
    ahead = torch.Generator()
    ahead.set_state(generator.get_state())

    def crops(indices: Tensor) -> Tensor:
        return torch.stack(
            [random_resized_crop(images[i], size, crop_scale, ahead) for i in indices.tolist()]
        )

    with ThreadPoolExecutor(max_workers=1) as thread:
        prepared = [thread.submit(crops, indices) for indices in plan[:1]]
        for i, indices in enumerate(plan):
            ready = prepared.pop().result()
            generator.set_state(ahead.get_state())
            prepared += [thread.submit(crops, following) for following in plan[i + 1 : i + 2]]
            yield indices, ready


DECODERS = 4
"""Threads that decode images at the same time."""


def read_images(sources: Sequence[bytes | Path], limits: ImageLimits, shortest_side: int) -> list[Tensor]:
    """Decode images in parallel, in order, each to uint8 [3, H, W]. Raise as `open_image` does."""

    def read(source: bytes | Path) -> Tensor:
        return to_tensor(open_image(source, limits, shortest_side=shortest_side))

    with ThreadPoolExecutor(DECODERS) as threads:
        return list(threads.map(read, sources))
