import json

import pytest
import torch
from PIL import Image
from torchvision.transforms import Normalize, ToTensor

from core.clip.data.transforms import Pixels
from core.clip.models.backbone import Backbone, image_transform
from tests.api import crafted


@pytest.mark.parametrize("size", [(64, 64), (33, 90), (200, 41), (32, 32)])
def test_the_halves_are_the_whole(backbone: Backbone, size: tuple[int, int]) -> None:
    pixels = Pixels(backbone.preprocess)
    images = [Image.fromarray(crafted.pixels(seed, *size)) for seed in range(3)]
    fitted = [pixels.fit(image) for image in images]
    assert {(one.dtype, tuple(one.shape)) for one in fitted} == {(torch.uint8, (32, 32, 3))}
    finished = pixels.finish(torch.stack(fitted))
    assert torch.equal(finished, torch.stack([backbone.preprocess(image) for image in images]))
    assert finished.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
def test_every_transform_of_open_clip_ends_in_the_normalisation(mode: str) -> None:
    settings = {"size": 48, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.25), "resize_mode": mode}
    preprocess = image_transform(json.dumps(settings))
    *_, to_tensor, normalize = preprocess.transforms
    assert isinstance(to_tensor, ToTensor)
    assert isinstance(normalize, Normalize)
    pixels, image = Pixels(preprocess), Image.fromarray(crafted.pixels(0, 70, 90))
    assert torch.equal(pixels.finish(pixels.fit(image)[None])[0], preprocess(image))
