"""Near duplicates: the same image, re-encoded, scaled, mirrored or slightly cropped.

One matrix product compares all pairs as 16 x 16 grey levels. The nearest few of each image are then compared
in fine structure, which two images of different things do not share, however similar their outlines.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.clip.checks.image_stats import MIN_CONTRAST, THUMBNAIL, ImageStats

Floats = NDArray[np.float32]
Pair = tuple[int, int, bool]
"""Indices of the earlier and the later image; True if mirrored."""

COARSE = 16
NEIGHBOURS = 3
"""Number of earlier images compared in fine structure with each image, and of mirrored ones."""
MIN_COARSE_CORRELATION = 0.85
"""Minimum correlation of the coarse grey levels for a comparison of the fine structure."""
MIN_CROP_CORRELATION = 0.95
"""The same for a crop. Cropped copies have 0.97 or more, 90% of other pairs less than 0.95."""
MIN_SIMILARITY = 0.6
"""Minimum similarity of near duplicates."""
CERTAIN = 0.85
"""Similarity above which no crop is tried."""
MAX_ASPECT_CHANGE = 1.25
"""Maximum ratio of the aspect ratios of near duplicates."""
FINE = 32
"""Side at which fine structure is compared (pixels). One of these pixels is the tolerance of a crop."""
SMOOTH = 3
"""Radius of the neighbourhood for mean and standard deviation (pixels)."""
FAINT = 4.0
"""Standard deviation (grey levels) below which structure is damped, so that noise does not count."""
CROPS = (0.95, 0.9)
"""Shares of the sides left by a crop; other shares resemble one of these."""
OFFSETS = 4
"""Number of steps between a crop at one end of a side and a crop at the other."""
CELL = 8
"""Side of a comparison cell (pixels of FINE). All but 10% of the cells must agree."""
EMPTY = 0.05
"""Mean square of the structure below which a cell counts as empty."""
BLOCK = 512
PAIR_BATCH_SIZE = 32
"""Number of pairs per batch, whose crops take 6 MB."""


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
    for start in range(0, len(pairs), PAIR_BATCH_SIZE):
        some = pairs[start : start + PAIR_BATCH_SIZE]
        for (first, second, mirrored), value in zip(some, _similarities(stats, some), strict=True):
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


def _similarities(stats: Sequence[ImageStats], pairs: Sequence[Pair]) -> Floats:
    """Return the similarity [P] of pairs; uncertain pairs are also compared as crops of each other."""
    firsts, seconds, mirrored = (np.array(column) for column in zip(*pairs, strict=True))
    images, index = np.unique([*firsts, *seconds], return_inverse=True)
    both = index.reshape(2, len(pairs))
    greys = np.stack([stats[i].thumbnail for i in images]).astype(np.float32)  # [M, T, T]
    coarse, small = (_parts(greys, (1.0,), side)[:, 0] for side in (COARSE, FINE))
    structure = _fine(small)
    fits, values = _fit(structure[both[0], None], _mirrored(structure[both[1]], mirrored))
    doubtful = values < CERTAIN
    crops = _parts(greys, CROPS, COARSE)  # [M, N, C, C]
    for whole, part in (both, both[::-1]):
        alike = _correlations(crops[whole], _mirrored(coarse[part], mirrored)).max(axis=1)
        rows = np.flatnonzero(doubtful & (alike >= MIN_CROP_CORRELATION))
        if len(rows):
            fine = _fine(_parts(greys[whole[rows]], CROPS, FINE))
            as_crop, agreements = _fit(fine, _mirrored(structure[part[rows]], mirrored[rows]))
            better = as_crop > fits[rows]
            fits[rows] = np.where(better, as_crop, fits[rows])
            values[rows] = np.where(better, agreements, values[rows])
    return values


def _mirrored(images: Floats, mirrored: NDArray[np.bool_]) -> Floats:
    """Mirror those images [P, F, F] that are marked in `mirrored`."""
    result: Floats = np.where(mirrored[:, None, None], images[:, :, ::-1], images)
    return result


def _candidates(stats: Sequence[ImageStats]) -> Iterator[tuple[int, int, bool]]:
    """Yield (later, earlier, mirrored) of the nearest pairs of each image by coarse grey levels."""
    seen = [i for i, s in enumerate(stats) if s.contrast >= MIN_CONTRAST]
    if not seen:
        return
    index = np.array(seen)
    thumbnails = np.stack([_coarse(stats[i].thumbnail) for i in seen])  # [N, 16, 16]
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


def _coarse(thumbnail: NDArray[np.uint8]) -> Floats:
    cell = THUMBNAIL // COARSE
    means: Floats = thumbnail.reshape(COARSE, cell, COARSE, cell).mean(axis=(1, 3), dtype=np.float32)
    return means


def _standardised(images: Floats) -> Floats:
    """Flatten […, H, W] to […, H * W] with mean 0 and length 1, so that products are correlations."""
    flat = images.reshape(*images.shape[:-2], -1)
    flat = flat - flat.mean(axis=-1, keepdims=True)
    standard: Floats = flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-6)
    return standard


def _parts(images: Floats, shares: Sequence[float], side: int) -> Floats:
    """Crop [M, T, T] to [M, N, side, side]: all crops with these shares of the sides, at all offsets."""
    parts = []
    for share in shares:
        cuts = _cuts(share, side)  # [O, side, T]
        flat = cuts.reshape(-1, THUMBNAIL)
        both = (flat @ images) @ flat.T  # [M, O * side, O * side]
        grid = both.reshape(len(images), len(cuts), side, len(cuts), side).swapaxes(2, 3)
        parts.append(grid.reshape(len(images), -1, side, side))
    return np.concatenate(parts, axis=1)


def _fine(images: Floats) -> Floats:
    """Return the fine structure of […, F, F]: local mean removed, divided by local standard deviation.

    A hard outline thus counts no more than a faint pattern.
    """
    mean = _smoothed(images)
    variance = _smoothed(np.square(images)) - np.square(mean)
    structure: Floats = ((images - mean) / np.sqrt(np.maximum(variance, 0) + FAINT**2)).astype(np.float32)
    return structure


def _smoothed(images: Floats) -> Floats:
    """Return the local mean of each pixel, by a separable box filter."""
    smoothed: Floats = _smoothing() @ (images.reshape(-1, FINE) @ _smoothing().T).reshape(images.shape)
    return smoothed


def _fit(wholes: Floats, parts: Floats) -> tuple[Floats, Floats]:
    """Find the crop [P, N, F, F] that fits each part [P, F, F] best; return correlations and agreements."""
    correlations = _correlations(wholes, parts)
    best = correlations.argmax(axis=1)
    rows = np.arange(len(parts))
    return correlations[rows, best], _agreements(wholes[rows, best], parts)


def _correlations(wholes: Floats, parts: Floats) -> Floats:
    """Return the correlations [P, N] of [P, N, F, F] with [P, F, F]."""
    correlations: Floats = (_standardised(wholes) @ _standardised(parts)[:, :, None])[:, :, 0]
    return correlations


def _agreements(a: Floats, b: Floats) -> Floats:
    """Return the 10th percentile over cells of the correlation of two structures [P, F, F], as [P].

    Two different things of the same outline correlate along the outline, but not inside.
    """
    n = FINE // CELL
    x, y = (s.reshape(-1, n, CELL, n, CELL).swapaxes(2, 3).reshape(-1, n * n, CELL * CELL) for s in (a, b))
    xx, yy, xy = (np.einsum("pci,pci->pc", *two) for two in ((x, x), (y, y), (x, y)))
    filled = np.maximum(xx, yy) > EMPTY * CELL * CELL
    # Empty cells are sorted last, beyond the percentile of the others.
    agree = np.sort(np.where(filled, xy / np.maximum(np.sqrt(xx * yy), 1e-6), np.inf), axis=1)
    place = np.maximum(filled.sum(axis=1) - 1, 0) / 10
    below = place.astype(int)[:, None]
    low, high = (
        np.take_along_axis(agree, at, axis=1)[:, 0] for at in (below, below + (place[:, None] > below))
    )
    share = (place - below[:, 0]).astype(np.float32)
    agreements: Floats = (
        np.where(filled.any(axis=1), low, 0) * (1 - share) + np.where(share > 0, high, 0) * share
    )
    return agreements


@cache
def _cuts(share: float, side: int) -> Floats:
    """Return the matrices [O, side, T] that scale this share of a side, at each offset."""
    starts = [(1 - share) * i / OFFSETS for i in range(OFFSETS + 1)] if share < 1 else [0.0]
    each = Image.fromarray(np.eye(THUMBNAIL, dtype=np.float32))
    boxes = [(0, start * THUMBNAIL, THUMBNAIL, (start + share) * THUMBNAIL) for start in starts]
    cuts = [np.asarray(each.resize((THUMBNAIL, side), Image.Resampling.BOX, box=box)) for box in boxes]
    return np.stack(cuts)


@cache
def _smoothing() -> Floats:
    """Return the matrix [F, F] of the box filter along one side."""
    offsets = np.abs(np.arange(FINE)[:, None] - np.arange(FINE)[None])
    near = (offsets <= SMOOTH).astype(np.float32)
    mean: Floats = near / near.sum(axis=1, keepdims=True)
    return mean
