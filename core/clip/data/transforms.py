"""Transforms from decoded images to the input of an image tower."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, Compose, Resize
from torchvision.transforms.functional import pil_modes_mapping

from core.clip.data.images import Fit


def to_tensor(image: Image.Image) -> Tensor:
    """Convert an RGB image to uint8 [3, H, W].

    uint8 takes a quarter of the memory of floats. Channels stay last in memory: that resamples fastest.
    """
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def to_image(tensor: Tensor) -> Image.Image:
    """Convert uint8 [3, H, W] to an image."""
    return Image.fromarray(tensor.permute(1, 2, 0).numpy())


def random_resized_crop(image: Tensor, size: int, crop_scale: float, generator: torch.Generator) -> Tensor:
    """Crop a random part of the image and scale it to size x size.

    The crop covers `crop_scale` to 1 of the area, with an aspect ratio of 3/4 to 4/3. This is torchvision's
    RandomResizedCrop, bicubic with antialiasing, but reproducible with `generator`.

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
    else:  # a very long image: the largest crop of an allowed ratio, anywhere along it
        w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    left, top = (
        (torch.rand(2, generator=generator) * torch.tensor([width - w + 1, height - h + 1])).int().tolist()
    )
    part = image[None, :, top : top + h, left : left + w]
    # 5 times as fast as Pillow, with the same result within rounding.
    return F.interpolate(part, (size, size), mode="bicubic", antialias=True)[0]


def to_pixels(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalise uint8 images [B, 3, H, W] to the input of an image tower."""
    m, s = (torch.tensor(values, device=images.device)[:, None, None] for values in (mean, std))
    return images.float().div_(255).sub_(m).div_(s)


@dataclass(frozen=True)
class Pixels:
    """The test transform in two steps: `fit` per image, `finish` per batch.

    `finish` of stacked `fit` results is bit-identical to `preprocess` of each image. Between the steps an
    image takes a quarter of the bytes.
    """

    preprocess: Compose
    """The whole transform: an RGB image to fp32 [3, S, S]. open_clip's end in ToTensor and Normalize."""

    def fit(self, image: Image.Image) -> Tensor:
        """Scale and crop to uint8 [S, S, 3]."""
        for transform in self.preprocess.transforms[:-2]:
            image = transform(image)
        return torch.from_numpy(np.array(image))

    def fit_of_decoder(self) -> Fit | None:
        """Return `fit` in a form for decoders, which have no torch, or None for an unusual transform."""
        match self.preprocess.transforms[:-2]:
            case [Resize(size=int(side)) as resize, CenterCrop(size=size), _] if tuple(size) == (side, side):
                squash = False
            case [Resize(size=(side, other)) as resize, _] if side == other:
                squash = True
            case _:
                return None
        return Fit(side, pil_modes_mapping[resize.interpolation], squash)

    def finish(self, fitted: Tensor) -> Tensor:
        """Normalise [N, S, S, 3] from `fit` to fp32 [N, 3, S, S], channels last, on the same device."""
        normalize = self.preprocess.transforms[-1]
        return to_pixels(fitted.permute(0, 3, 1, 2), normalize.mean, normalize.std)
