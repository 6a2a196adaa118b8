"""From a decoded image to the pixels that an image tower reads, in training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, Normalize, ToTensor


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB image as uint8 [3, H, W]: a fourth of the memory of floats, and what is resampled
    fastest (the channels stay last in memory)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def to_image(tensor: Tensor) -> Image.Image:
    """The way back."""
    return Image.fromarray(tensor.permute(1, 2, 0).numpy())


def random_resized_crop(image: Tensor, size: int, crop_scale: float, generator: torch.Generator) -> Tensor:
    """A random part of the image that covers `crop_scale` to 1 of its area with an aspect ratio of
    3/4 to 4/3, scaled to size x size: torchvision's RandomResizedCrop, bicubic with antialiasing,
    with a generator of its own so that a seed gives the same crops.

    Args:
        image: uint8 [3, H, W].

    Returns:
        uint8 [3, size, size].
    """
    height, width = image.shape[1:]
    for _ in range(10):
        share, stretch = torch.rand(2, generator=generator).tolist()
        area = width * height * (crop_scale + share * (1 - crop_scale))
        ratio = (3 / 4) ** (1 - 2 * stretch)  # log-uniform in 3/4 … 4/3
        w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            break
    else:  # a very long image: as much as the ratio allows, anywhere along it
        w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    left, top = (
        (torch.rand(2, generator=generator) * torch.tensor([width - w + 1, height - h + 1])).int().tolist()
    )
    part = image[None, :, top : top + h, left : left + w]
    # 5 times faster than Pillow on the same part, and equal to it within rounding.
    return F.interpolate(part, (size, size), mode="bicubic", antialias=True)[0]


def to_pixels(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 images [B, 3, H, W] as the normalised pixels that an image tower reads, same shape."""
    m, s = (torch.tensor(values, device=images.device)[:, None, None] for values in (mean, std))
    return (images.float() / 255 - m) / s


# The test transform in two halves: what each image needs by itself, and what a batch of them can have done
# at once, with a quarter of the bytes between the two.


@dataclass(frozen=True)
class Pixels:
    """`finish(stack of fit)` is `preprocess` of each, bit by bit."""

    preprocess: Callable[[Image.Image], Tensor]
    """The whole: an RGB image to fp32 [3, S, S]."""

    def fit(self, image: Image.Image) -> Tensor:
        """Scaled and cut: uint8 [S, S, 3]; or the whole, where that is not made of halves."""
        if self._normalize is None:
            return self.preprocess(image)
        for transform in self._transforms[:-2]:
            image = transform(image)
        return torch.from_numpy(np.array(image))

    def finish(self, fitted: Tensor) -> Tensor:
        """[N, S, S, 3] as from `fit` to fp32 [N, 3, S, S], with the channels last, where `fitted` is."""
        normalize = self._normalize
        if normalize is None or fitted.dtype != torch.uint8:
            return fitted
        mean, std = (
            torch.tensor(values, device=fitted.device)[:, None, None]
            for values in (normalize.mean, normalize.std)
        )
        return fitted.permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)

    @property
    def _transforms(self) -> list[Any]:
        return self.preprocess.transforms if isinstance(self.preprocess, Compose) else []

    @property
    def _normalize(self) -> Normalize | None:
        """The last transform, if the one before makes numbers of an image."""
        match self._transforms:
            case [*_, ToTensor(), Normalize() as last]:
                return last
        return None
