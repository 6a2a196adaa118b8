import json
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor

from core.clip.data.transforms import Pixels, random_resized_crop, to_pixels, to_tensor
from core.clip.models.backbone import image_transform

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Sized:
    """Image of any size that uses no memory and records the requested box."""

    def __init__(self, width: int, height: int) -> None:
        self.shape = (3, height, width)
        self.boxes: list[tuple[int, int, int, int]] = []

    def __getitem__(self, part: tuple[None, slice, slice, slice]) -> Tensor:
        _, _, rows, columns = part
        self.boxes.append((columns.start, rows.start, columns.stop, rows.stop))
        return torch.zeros((1, 3, 8, 8), dtype=torch.uint8)


def boxes(width: int, height: int, crop_scale: float, seed: int, crops: int = 1) -> list[tuple[int, ...]]:
    image, generator = Sized(width, height), torch.Generator().manual_seed(seed)
    for _ in range(crops):
        random_resized_crop(image, 8, crop_scale, generator)  # type: ignore[arg-type]
    return list(image.boxes)


@given(st.integers(1, 3000), st.integers(1, 3000), st.floats(0.01, 1.0), st.integers(0, 2**62))
@example(1, 1, 0.01, 0)
@example(1, 5000, 0.5, 0)
@example(5000, 1, 1.0, 0)
def test_crops_are_inside_the_image(width: int, height: int, crop_scale: float, seed: int) -> None:
    for left, top, right, bottom in boxes(width, height, crop_scale, seed, crops=3):
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


@given(st.integers(64, 1000), st.floats(3 / 4, 4 / 3), st.floats(0.01, 1.0), st.integers(0, 2**62))
def test_crops_cover_at_least_the_share_asked_for(
    width: int, ratio: float, crop_scale: float, seed: int
) -> None:
    height = round(width * ratio)
    for left, top, right, bottom in boxes(width, height, crop_scale, seed, crops=3):
        w, h = right - left, bottom - top
        # Sides are whole pixels, so the area is off by up to half a pixel per side.
        assert (w + 0.5) * (h + 0.5) >= crop_scale * width * height
        # The ratio is 3/4 to 4/3, or that of the whole image if it is longer.
        assert (w - 0.5) / (h + 0.5) <= 4 / 3
        assert (h - 0.5) / (w + 0.5) <= 4 / 3


@given(st.integers(2, 100), st.integers(300, 3000), st.booleans(), st.integers(0, 2**62))
def test_crops_of_long_images_are_not_long(short: int, long: int, upright: bool, seed: int) -> None:
    size = (short, long) if upright else (long, short)
    for left, top, right, bottom in boxes(*size, 0.9, seed):
        w, h = right - left, bottom - top
        assert min(w, h) == short  # The largest crop that fits.
        assert max(w, h) == round(short * 4 / 3)


def test_crops_take_every_share_ratio_and_place() -> None:
    found = np.array(boxes(1000, 1000, 0.25, seed=0, crops=400), dtype=float)
    left, top, right, bottom = found.T
    share = (right - left) * (bottom - top) / 1e6
    assert share.min() < 0.27
    assert share.max() > 0.9
    # Uniform except for retries.
    assert np.quantile(share, [0.25, 0.5]) == pytest.approx([0.42, 0.6], abs=0.06)
    ratio = np.log((right - left) / (bottom - top))
    assert ratio.min() < -0.9 * math.log(4 / 3)
    assert ratio.max() > 0.9 * math.log(4 / 3)
    assert abs(ratio.mean()) < 0.03
    small = share < 0.4
    for start, end in ((left, right), (top, bottom)):
        place = start[small] / (1000 - (end - start)[small])
        assert place.min() < 0.05
        assert place.max() > 0.95
        assert place.mean() == pytest.approx(0.5, abs=0.1)


def test_the_crop_is_that_part_of_the_image() -> None:
    # Red grows to the right and green downwards, so a colour gives a pixel's position.
    ramp = np.zeros((256, 200, 3), dtype=np.uint8)
    ramp[:, :, 0] = np.arange(200)
    ramp[:, :, 1] = np.arange(256)[:, None]
    image = Image.fromarray(ramp)
    for seed in range(20):
        ((left, top, right, bottom),) = boxes(200, 256, 0.2, seed)
        crop = random_resized_crop(to_tensor(image), 64, 0.2, torch.Generator().manual_seed(seed))
        assert crop.shape == (3, 64, 64)
        assert crop.dtype == torch.uint8
        x, y, _ = crop.numpy().astype(float)
        centres = (np.arange(64) + 0.5) / 64
        inner = slice(2, -2)  # Bicubic interpolation bends a ramp at its ends.
        assert np.abs(x - (left - 0.5 + centres * (right - left)))[:, inner].max() <= 1
        assert np.abs(y.T - (top - 0.5 + centres * (bottom - top)))[:, inner].max() <= 1


def test_a_small_image_is_scaled_up() -> None:
    image = Image.new("RGB", (3, 2), (10, 20, 30))
    crop = random_resized_crop(to_tensor(image), 32, 0.5, torch.Generator().manual_seed(0))
    assert torch.equal(crop, torch.tensor([10, 20, 30], dtype=torch.uint8)[:, None, None].expand(3, 32, 32))


@pytest.mark.parametrize("size", [(160, 120), (33, 500), (20, 20)])
def test_resampling_equals_pillows(size: tuple[int, int]) -> None:
    image = noise(*size)
    seed = torch.Generator().manual_seed(3)
    ours = random_resized_crop(to_tensor(image), 48, 0.4, seed)
    ((left, top, right, bottom),) = boxes(*size, 0.4, seed=3)
    box = (left, top, right, bottom)
    theirs = to_tensor(image.crop(box).resize((48, 48), Image.Resampling.BICUBIC))
    assert (ours.int() - theirs.int()).abs().max() <= 2


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
def test_to_pixels_is_open_clips_test_transform_where_nothing_is_resized(mode: str) -> None:
    config = PreprocessCfg(size=32, mean=MEAN, std=STD, interpolation="bicubic", resize_mode=mode)
    theirs = image_transform_v2(config, is_train=False)
    image = noise(32, 32)
    assert torch.equal(to_pixels(to_tensor(image)[None], MEAN, STD)[0], theirs(image))


@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_an_image_is_fitted_as_by_torchvision(interpolation: str, resize_mode: str) -> None:
    """Decoder processes have no torchvision, and read the transform from the settings that models store."""
    for side in (32, 160, 224):
        settings = {"size": (side, side), "interpolation": interpolation, "resize_mode": resize_mode}
        pixels = Pixels(image_transform(json.dumps(settings)))
        assert (fit := pixels.fit_of_decoder())
        for width, height in np.random.default_rng(side).integers(16, 400, (10, 2)).tolist():
            image = noise(width, height)
            assert np.array_equal(fit(image), pixels.fit(image))
