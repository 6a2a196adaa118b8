"""Near duplicates: the same image, re-encoded, scaled or mirrored.

One matrix product compares all pairs as 16 x 16 grey levels. The nearest few of each image are then compared
in fine structure, which two images of different things do not share, however similar their outlines.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.clip.checks.image_stats import MIN_CONTRAST, THUMBNAIL, ImageStats

Floats = NDArray[np.float32]

COARSE = 16
NEIGHBOURS = 3
"""Number of earlier images compared in fine structure with each image, and of mirrored ones."""
MIN_COARSE_CORRELATION = 0.85
"""Minimum correlation of the coarse grey levels for a comparison of the fine structure."""
MIN_SIMILARITY = 0.6
"""Minimum similarity of near duplicates."""
MAX_ASPECT_CHANGE = 1.25
"""Maximum ratio of the aspect ratios of near duplicates."""
FINE = 32
"""Side at which fine structure is compared (pixels)."""
SMOOTH = 3
"""Radius of the neighbourhood for mean and standard deviation (pixels)."""
FAINT = 4.0
"""Standard deviation (grey levels) below which structure is damped, so that noise does not count."""
CELL = 8
"""Side of a comparison cell (pixels of FINE). All but 10% of the cells must agree."""
EMPTY = 0.05
"""Mean square of the structure below which a cell counts as empty."""
BLOCK = 512
"""Number of images, and of pairs, that are compared at a time."""


@dataclass(frozen=True)
class NearDuplicate:
    """A pair of near-duplicate images."""

    first: int
    """Index of the earlier image."""
    second: int
    """Index of the later image."""
    similarity: float
    """10th percentile over the cells of the correlation of fine structure, from MIN_SIMILARITY to 1."""
    mirrored: bool


def find_near_duplicates(stats: Sequence[ImageStats]) -> list[NearDuplicate]:
    """Return, for each near duplicate of an earlier image, the most similar pair."""
    pairs = [
        (first, second, mirrored)
        for second, first, mirrored in _candidates(stats)
        if 1 / MAX_ASPECT_CHANGE
        <= stats[first].aspect_ratio / stats[second].aspect_ratio
        <= MAX_ASPECT_CHANGE
    ]
    best: dict[int, NearDuplicate] = {}
    for start in range(0, len(pairs), BLOCK):
        some = pairs[start : start + BLOCK]
        earlier = _fine(np.stack([stats[first].thumbnail for first, _, _ in some]))
        later = _fine(np.stack([stats[i].thumbnail[:, :: -1 if turned else 1] for _, i, turned in some]))
        for (first, second, mirrored), value in zip(some, _agreements(earlier, later), strict=True):
            if value >= MIN_SIMILARITY and (second not in best or value > best[second].similarity):
                best[second] = NearDuplicate(first, second, min(float(value), 1.0), mirrored)
    return [best[second] for second in sorted(best)]


def find_originals(stats: Sequence[ImageStats], classes: Sequence[str]) -> list[int]:
    """Return, for each image, the first image of its class of which it is a copy, or else its own index.

    Copies are near duplicates, also through other images, and images with equal thumbnails.
    """
    originals = list(range(len(stats)))

    def original(i: int) -> int:
        while originals[i] != i:
            i = originals[i]
        return i

    first_of: dict[tuple[str, bytes], int] = {}
    equal = [
        (first_of.setdefault((name, s.thumbnail.tobytes()), i), i)
        for i, (s, name) in enumerate(zip(stats, classes, strict=True))
    ]
    near = [(pair.first, pair.second) for pair in find_near_duplicates(stats)]
    for pair in (*equal, *near):
        first, second = sorted(map(original, pair))
        if classes[first] == classes[second]:
            originals[second] = first
    return [original(i) for i in range(len(stats))]


def _candidates(stats: Sequence[ImageStats]) -> Iterator[tuple[int, int, bool]]:
    """Yield (later, earlier, mirrored) of the nearest pairs of each image by coarse grey levels."""
    seen = [i for i, s in enumerate(stats) if s.contrast >= MIN_CONTRAST]
    if not seen:
        return
    index = np.array(seen)
    thumbnails = np.concatenate([_scaled(stats[i].thumbnail[None], COARSE) for i in seen])  # [N, 16, 16]
    plain = _standardised(thumbnails)
    for view, mirrored in ((plain, False), (_standardised(thumbnails[:, :, ::-1]), True)):
        for start in range(0, len(seen), BLOCK):
            rows = np.arange(start, min(start + BLOCK, len(seen)))
            alike = view[rows] @ plain[: rows[-1] + 1].T  # [B, earlier]
            alike[np.arange(alike.shape[1])[None] >= rows[:, None]] = -1
            last = min(NEIGHBOURS, alike.shape[1]) - 1
            nearest = np.argpartition(-alike, last, axis=1)[:, : last + 1]
            for row, columns in zip(rows, nearest, strict=True):
                for column in columns:
                    if alike[row - start, column] >= MIN_COARSE_CORRELATION:
                        yield int(index[row]), int(index[column]), mirrored


def _scaled(thumbnails: NDArray[np.uint8], side: int) -> Floats:
    """Scale thumbnails [M, T, T] down to [M, side, side]."""
    cell = THUMBNAIL // side
    means: Floats = thumbnails.reshape(-1, side, cell, side, cell).mean(axis=(2, 4), dtype=np.float32)
    return means


def _standardised(images: Floats) -> Floats:
    """Flatten [N, H, W] to [N, H * W] with mean 0 and length 1, so that products are correlations."""
    flat = images.reshape(len(images), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    standard: Floats = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return standard


def _fine(thumbnails: NDArray[np.uint8]) -> Floats:
    """Return the fine structure [M, F, F]: local mean removed, divided by local standard deviation.

    A hard outline thus counts no more than a faint pattern.
    """
    images = _scaled(thumbnails, FINE)
    offsets = np.abs(np.arange(FINE)[:, None] - np.arange(FINE)[None])
    near = (offsets <= SMOOTH).astype(np.float32)
    box = near / near.sum(axis=1, keepdims=True)  # [F, F], a box filter along one side
    mean = box @ images @ box.T
    variance = box @ np.square(images) @ box.T - np.square(mean)
    structure: Floats = (images - mean) / np.sqrt(np.maximum(variance, 0) + np.float32(FAINT**2))
    return structure


def _agreements(a: Floats, b: Floats) -> Floats:
    """Return the 10th percentile over cells of the correlation of two structures [P, F, F], as [P].

    Two different things of the same outline correlate along the outline, but not inside.
    """
    n = FINE // CELL
    x, y = (s.reshape(-1, n, CELL, n, CELL).swapaxes(2, 3).reshape(-1, n * n, CELL * CELL) for s in (a, b))
    xx, yy, xy = (np.einsum("pci,pci->pc", *two) for two in ((x, x), (y, y), (x, y)))
    filled = np.maximum(xx, yy) > EMPTY * CELL * CELL
    correlations = np.where(filled, xy / np.maximum(np.sqrt(xx * yy), 1e-6), np.nan)
    correlations[~filled.any(axis=1)] = 0
    agreements: Floats = np.nanquantile(correlations, 0.1, axis=1)
    return agreements
