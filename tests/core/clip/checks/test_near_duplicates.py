import io
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from core.clip.checks.image_stats import SIDE, THUMBNAIL, ImageStats, measure_image
from core.clip.checks.near_duplicates import (
    CELL,
    CROPS,
    EMPTY,
    FINE,
    MIN_SIMILARITY,
    OFFSETS,
    _agreements,
    _parts,
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
    "cropped": lambda p: p.crop((12, 4, 192, 146)),
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
    assert MIN_SIMILARITY <= pair.similarity <= 1


def test_different_images_are_no_near_duplicates() -> None:
    assert find_near_duplicates([stats_of(drawn(seed)) for seed in range(60)]) == []
    assert find_near_duplicates([]) == []


def test_equal_outlines_with_different_content_are_no_near_duplicates() -> None:
    def framed(seed: int) -> Image.Image:
        ground = Image.new("RGB", (200, 200), "white")
        ground.paste(drawn(seed, 120, 120).point(lambda value: value // 3), (40, 40))
        return ground

    assert find_near_duplicates([stats_of(framed(seed)) for seed in range(20)]) == []


def test_plain_images_are_no_near_duplicates() -> None:
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
    smaller, cropped = (stats_of(COPIES[kind](drawn(2)), quality=50) for kind in ("smaller", "cropped"))
    plain = stats_of(Image.new("RGB", (60, 60), "red"))
    every = [*images, smaller, plain, images[4], cropped, plain, images[1]]
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


def test_the_maximum_number_of_images() -> None:
    """All images are copies of one, which is the worst case."""
    base = measure_image(drawn(3))
    noise = np.random.default_rng(0)
    copies = [
        replace(
            base,
            thumbnail=np.clip(base.thumbnail + noise.normal(0, 2, base.thumbnail.shape), 0, 255).astype(
                np.uint8
            ),
        )
        for _ in range(1_000)
    ]
    started = time.process_time()
    assert len(find_near_duplicates(copies)) == 999
    assert time.process_time() - started < 30


@pytest.mark.parametrize("share", [1.0, *CROPS])
def test_crops_equal_those_of_pillow(share: float) -> None:
    thumbnail = stats_of(drawn(3)).thumbnail
    (parts,) = _parts(thumbnail[None].astype(np.float32), [share], FINE)
    assert len(parts) == (1 if share == 1 else (OFFSETS + 1) ** 2)
    start = (1 - share) * THUMBNAIL
    last = Image.fromarray(thumbnail).resize(
        (FINE, FINE), Image.Resampling.BOX, box=(start, start, THUMBNAIL, THUMBNAIL)
    )
    assert np.abs(parts[-1] - np.asarray(last)).max() <= 1  # Pillow rounds.


@pytest.mark.parametrize("cells", [0, 1, 3, 11, 16])
def test_agreement_is_the_lowest_tenth_of_the_cells_that_hold_something(cells: int) -> None:
    n = FINE // CELL
    noise = np.random.default_rng(cells)
    holds = np.zeros(n * n, dtype=bool)
    holds[noise.permutation(n * n)[:cells]] = True
    mask = np.kron(holds.reshape(n, n), np.ones((CELL, CELL)))
    a, b = (noise.normal(0, 1, (FINE, FINE)) * mask for _ in range(2))
    (found,) = _agreements(a[None].astype(np.float32), (a + b)[None].astype(np.float32))
    agreements = []
    for row in range(0, FINE, CELL):
        for column in range(0, FINE, CELL):
            x, y = (s[row : row + CELL, column : column + CELL] for s in (a, a + b))
            if max((x * x).mean(), (y * y).mean()) > EMPTY:
                agreements.append((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))
    assert len(agreements) == cells
    assert found == pytest.approx(np.percentile(agreements, 10) if agreements else 0.0, abs=1e-5)
