import numpy as np
import pytest
from PIL import Image, ImageFilter

from api.jobs.preflight import BLURRED
from core.clip.checks.image_stats import SIDE, measure_image
from tests.core.clip.drawn import drawn


def test_the_statistics_of_an_image() -> None:
    found = measure_image(drawn(0, 200, 150))
    assert (found.shorter_side, found.aspect_ratio) == (150, pytest.approx(4 / 3))
    assert measure_image(drawn(0, 150, 200).rotate(90, expand=True)).aspect_ratio == pytest.approx(4 / 3)
    assert len(bytes.fromhex(found.thumbnail)) == len(bytes.fromhex(found.pattern)) == 32
    assert found.contrast == pytest.approx(np.asarray(drawn(0).convert("L")).std(), rel=1e-3)


def test_a_mirrored_image_has_the_mirrored_pattern() -> None:
    image = drawn(0, 128, 128)
    found, mirrored = measure_image(image), measure_image(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert mirrored.pattern == found.mirrored_pattern != found.pattern == mirrored.mirrored_pattern
    assert mirrored.thumbnail != found.thumbnail


@pytest.mark.parametrize("seed", range(5))
def test_sharpness_falls_with_blur_and_not_with_contrast(seed: int) -> None:
    image = drawn(seed, 170, SIDE)
    values = [
        measure_image(image.filter(ImageFilter.GaussianBlur(sigma))).sharpness for sigma in (0, 1, 2, 3)
    ]
    assert values == sorted(values, reverse=True)
    assert values[0] > BLURRED > values[2]
    faint = image.point(lambda value: 120 + value // 8)
    assert measure_image(faint).sharpness == pytest.approx(values[0], rel=0.15)


def test_sharpness_is_of_the_edges_however_few_there_are() -> None:
    plain = Image.new("RGB", (170, SIDE), (230, 230, 230))
    plain.paste((20, 40, 90), (50, 30, 120, 100))
    assert measure_image(plain).sharpness > BLURRED
    assert measure_image(plain.filter(ImageFilter.GaussianBlur(3))).sharpness < BLURRED


def test_subject_coverage() -> None:
    everywhere = measure_image(drawn(1, 128, 128)).subject_coverage
    assert everywhere > 0.4
    for share in (1 / 2, 1 / 4, 1 / 8):
        ground = Image.new("RGB", (512, 512), "white")
        side = round(512 * share)
        ground.paste(drawn(1, side, side), (100, 200))
        found = measure_image(ground.resize((128, 128), Image.Resampling.BICUBIC)).subject_coverage
        assert 0.4 * everywhere * share**2 < found < 2.5 * share**2


def test_a_blank_image() -> None:
    for image in (Image.new("RGB", (50, 40), "red"), Image.new("RGB", (4, 200), "white")):
        found = measure_image(image)
        assert (found.contrast, found.sharpness, found.subject_coverage) == (0, 1, 1)


@pytest.mark.parametrize("size", [(4, 4), (4, 64), (5, 300), (17, 16)])
def test_the_smallest_images(size: tuple[int, int]) -> None:
    found = measure_image(drawn(2, 64, 64).resize(size))
    assert found.shorter_side == min(size)
    assert 0 < found.subject_coverage <= 1 + 1e-6
    assert np.isfinite(found.sharpness)
