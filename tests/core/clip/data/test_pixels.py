import pytest
import torch
from PIL import Image
from torch import Tensor

from core.clip.data.transforms import Pixels
from core.clip.models.backbone import Backbone
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


def test_a_transform_of_another_kind_stays_whole() -> None:
    def preprocess(image: Image.Image) -> Tensor:
        return torch.ones(3, 2, 2)

    pixels = Pixels(preprocess)
    assert torch.equal(pixels.finish(pixels.fit(Image.new("RGB", (5, 5)))[None]), torch.ones(1, 3, 2, 2))
