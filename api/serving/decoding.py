"""Decoding of image files to the input of a model."""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import torch
from PIL import Image
from torch import Tensor

from core.clip.data.decoders import Decoders
from core.clip.data.header import ImageLimits
from core.clip.data.images import OpenOptions
from core.clip.data.transforms import Pixels
from core.clip.errors import BadImage
from core.clip.models.backbone import image_transform


def fitted(
    files: Iterable[bytes],
    preprocess: str,
    image_size: int,
    limits: ImageLimits,
    decoders: Decoders,
) -> Iterator[Tensor | BadImage]:
    """Decode files, and scale and crop the images with `Pixels.fit`.

    Args:
        preprocess: settings of the transform to `image_size`.

    Yields:
        The pixels of each image, or the reason why it can't be read, in the order of the files.

    Raises NoDecoder.
    """
    pixels = _pixels(preprocess)
    fit = pixels.fit_of_decoder()
    how: OpenOptions = {"shortest_side": 2 * image_size} if fit is None else {"fit": fit}
    for image in decoders.read(files, limits, **how):
        if isinstance(image, BadImage):
            yield image
        else:
            yield torch.from_numpy(image) if fit else pixels.fit(Image.fromarray(image))


@lru_cache
def _pixels(preprocess: str) -> Pixels:
    return Pixels(image_transform(preprocess))
