"""From an RGB picture to the pixels that an image tower reads."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def random_resized_crop(
    picture: Image.Image, size: int, crop_scale: float, generator: torch.Generator
) -> Image.Image:
    """A random part of the picture that covers `crop_scale` to 1 of its area with an aspect ratio of
    3/4 to 4/3, scaled to size x size: torchvision's RandomResizedCrop, with a generator of its own
    so that a seed gives the same crops, and in one resampling step."""
    width, height = picture.size
    for _ in range(10):
        share, stretch = torch.rand(2, generator=generator).tolist()
        area = width * height * (crop_scale + share * (1 - crop_scale))
        ratio = (3 / 4) ** (1 - 2 * stretch)  # log-uniform in 3/4 … 4/3
        w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            break
    else:  # a very long picture: as much as the ratio allows, anywhere along it
        w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    left, top = (
        (torch.rand(2, generator=generator) * torch.tensor([width - w + 1, height - h + 1])).int().tolist()
    )
    return picture.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + w, top + h))


def to_pixels(picture: Image.Image, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """An RGB picture as the normalised tensor [3, H, W] that an image tower reads."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
    return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
