import io

import pytest
from PIL import Image, ImageFilter

from clipcite.types.images import ImageStats
from core.clip.checks.image_stats import SIDE, measure_image
from core.clip.checks.near_duplicates import (
    find_near_duplicates,
    find_originals,
)
from core.clip.data.images import open_image
from tests.core.clip.drawn import drawn


def stats_of(image: Image.Image, quality: int = 90) -> ImageStats:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return measure_image(open_image(buffer.getvalue(), shortest_side=SIDE, grey=True))


COPIES = {
    "saved again": lambda p: p,
    "smaller": lambda p: p.resize((90, 68), Image.Resampling.BICUBIC),
    "brighter": lambda p: p.point(lambda value: min(255, round(value * 1.1) + 10)),
    "cropped": lambda p: p.crop((2, 2, p.width - 2, p.height - 2)),
    "a little blurred": lambda p: p.filter(ImageFilter.GaussianBlur(0.7)),
}


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_found(kind: str, mirrored: bool) -> None:
    images = [drawn(seed) for seed in range(20)]
    copy = COPIES[kind](images[7])
    if mirrored:
        copy = copy.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    (pair,) = find_near_duplicates([*map(stats_of, images), stats_of(copy, quality=50)])
    assert (pair.first, pair.second, pair.mirrored) == (7, 20, mirrored)


def test_different_images_are_not_near_duplicates() -> None:
    assert find_near_duplicates([stats_of(drawn(seed)) for seed in range(60)]) == []
    assert find_near_duplicates([]) == []


def test_equal_outlines_with_different_content_are_not_near_duplicates() -> None:
    def framed(seed: int) -> Image.Image:
        ground = Image.new("RGB", (200, 200), "white")
        ground.paste(drawn(seed, 120, 120).point(lambda value: value // 3), (40, 40))
        return ground

    assert find_near_duplicates([stats_of(framed(seed)) for seed in range(20)]) == []


def test_plain_images_are_not_near_duplicates() -> None:
    assert (
        find_near_duplicates(
            [stats_of(Image.new("RGB", (60, 60), "red")), stats_of(Image.new("RGB", (60, 60), "blue"))]
        )
        == []
    )


def test_every_copy_is_found_once() -> None:
    copies = [stats_of(drawn(1), quality=quality) for quality in (95, 80, 60, 40)]
    assert [(t.first < t.second, t.second) for t in find_near_duplicates(copies)] == [
        (True, 1),
        (True, 2),
        (True, 3),
    ]


def test_the_original_of_a_copy_is_the_first_image_of_its_class_that_it_resembles() -> None:
    images = [stats_of(drawn(seed)) for seed in range(6)]
    smaller, brighter = (stats_of(COPIES[kind](drawn(2)), quality=50) for kind in ("smaller", "brighter"))
    plain = stats_of(Image.new("RGB", (60, 60), "red"))
    every = [*images, smaller, plain, images[4], brighter, plain, images[1]]
    names = [*["a"] * 3, *["b"] * 3, "a", "a", "b", "a", "a", "b"]
    assert find_originals(every, names) == [
        0,
        1,
        2,
        3,
        4,
        5,
        2,
        7,
        4,
        2,
        7,
        11,
    ]  # The last is in another class.
    assert find_originals([], []) == []
