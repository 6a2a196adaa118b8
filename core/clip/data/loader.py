"""Training batches: the images of each step, and their random crops."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from clipcite.types.images import Image
from core.clip.data.header import ImageLimits
from core.clip.data.images import open_image
from core.clip.data.transforms import random_resized_crop, to_tensor

Crop = Callable[[Tensor, int, float, torch.Generator], Tensor]
"""Random crop uint8 [3, S, S] of an image [3, H, W]; takes the arguments of `random_resized_crop`."""


def epoch_batches(
    images: int, batches_per_epoch: int, epochs: int, generator: torch.Generator
) -> list[Tensor]:
    """Return the image indices [B] of every step.

    Each epoch is a new permutation, split into batches whose sizes differ by at most one. The losses compare
    images within a batch, so a small last batch would give mostly noise.
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
    crop: Crop = random_resized_crop,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield indices [B] and crops uint8 [B, 3, S, S] of every step. A thread prepares the next step.

    The thread has its own random generator, so that it does not race with the training loop. `generator` is
    set to the state after the yielded crops, as checkpoints need.
    """
    ahead = torch.Generator()
    ahead.set_state(generator.get_state())

    def crops(indices: Tensor) -> Tensor:
        return torch.stack([crop(images[i], size, crop_scale, ahead) for i in indices.tolist()])

    with ThreadPoolExecutor(max_workers=1) as thread:
        prepared = [thread.submit(crops, indices) for indices in plan[:1]]
        for i, indices in enumerate(plan):
            ready = prepared.pop().result()
            generator.set_state(ahead.get_state())
            prepared += [thread.submit(crops, following) for following in plan[i + 1 : i + 2]]
            yield indices, ready


DECODERS = 4


def read_images(images: Sequence[Image], limits: ImageLimits, shortest_side: int) -> list[Tensor]:
    """Decode images in threads to uint8 [3, H, W].

    Raises:
        BadImage: an image can't be read (see `open_image`).
    """

    def read(image: Image) -> Tensor:
        return to_tensor(open_image(image.read(), limits, shortest_side=shortest_side))

    with ThreadPoolExecutor(DECODERS) as threads:
        return list(threads.map(read, images))
