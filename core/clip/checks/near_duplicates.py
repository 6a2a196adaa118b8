"""Which images are the same image: saved anew, scaled, mirrored or slightly cropped.

All pairs are compared as 16 x 16 greys, one matrix product; the nearest few of each are then looked at
more closely: the fine structure of two images of different things has nothing in common, however
alike their outlines are.
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
"""The earlier one, the later one, mirrored."""

COARSE = 16
NEIGHBOURS = 3
"""Of each image so many earlier ones are looked at closely, and as many mirrored."""
LOOKS_ALIKE = 0.85
"""Correlation of the coarse greys from which a pair is looked at closely."""
LOOKS_CROPPED = 0.95
"""Likewise with those of a crop, before its fine structure is compared. Cropped copies have 0.97 or more,
nine of ten other pairs less."""
SAME = 0.6
"""Correlation of the fine structure, nearly everywhere, from which two images are one."""
CERTAIN = 0.85
"""From here on no crop is tried."""
MAX_ASPECT_CHANGE = 1.25
"""Aspect ratios that differ by more are no slight crop of each other."""
FINE = 32
"""Side at which the fine structure is compared: a crop that fits to a pixel of that is near enough."""
SMOOTH = 3
"""Neighbours on either side whose mean and scatter are taken off."""
FAINT = 4.0
"""Grey levels of scatter below which structure counts ever less: the noise of a plain ground is none."""
CROPS = (0.95, 0.9)
"""Shares of the sides that a crop may have kept; others are nearly like one of these."""
OFFSETS = 4
"""Steps from a crop at one end of a side to one at the other."""
CELL = 8
"""Side of the cells, of FINE, in which two images are compared: all but a tenth of them must agree."""
EMPTY = 0.05
"""Mean square of the structure below which there is none in a cell."""
BLOCK = 512
PAIRS = 32
"""Looked at closely at once: their crops take 6 MB."""


@dataclass(frozen=True)
class NearDuplicate:
    first: int
    second: int
    """Indices of the two, the first being the smaller one."""
    similarity: float
    """Correlation of their fine structure in the cells of the lowest tenth, in SAME … 1."""
    mirrored: bool


def find_near_duplicates(stats: Sequence[ImageStats]) -> list[NearDuplicate]:
    """For each image that is an earlier one again the most alike of those."""
    pairs = [
        (first, second, mirrored)
        for second, first, mirrored in _candidates(stats)
        if _near(stats[first].aspect_ratio, stats[second].aspect_ratio)
    ]
    found: dict[int, NearDuplicate] = {}
    for start in range(0, len(pairs), PAIRS):
        some = pairs[start : start + PAIRS]
        for (first, second, mirrored), value in zip(some, _similarities(stats, some), strict=True):
            if value >= SAME and (second not in found or value > found[second].similarity):
                found[second] = NearDuplicate(first, second, min(float(value), 1.0), mirrored)
    return [found[second] for second in sorted(found)]


def _similarities(stats: Sequence[ImageStats], pairs: Sequence[Pair]) -> Floats:
    """[P], of pairs that are looked at closely: as they are and, where that leaves a doubt, either one as a
    crop of the other."""
    firsts, seconds, mirrored = (np.array(column) for column in zip(*pairs, strict=True))
    images, index = np.unique([*firsts, *seconds], return_inverse=True)
    both = index.reshape(2, len(pairs))
    greys = np.stack([stats[i].thumbnail for i in images]).astype(np.float32)  # [M, T, T]
    coarse, small = (_parts(greys, (1.0,), side)[:, 0] for side in (COARSE, FINE))
    structure = _fine(small)
    fits, values = _fit(structure[both[0], None], _turned(structure[both[1]], mirrored))
    doubtful = values < CERTAIN
    crops = _parts(greys, CROPS, COARSE)  # [M, N, C, C]
    for whole, part in (both, both[::-1]):
        alike = _correlations(crops[whole], _turned(coarse[part], mirrored)).max(axis=1)
        rows = np.flatnonzero(doubtful & (alike >= LOOKS_CROPPED))
        if len(rows):
            fine = _fine(_parts(greys[whole[rows]], CROPS, FINE))
            as_crop, agreements = _fit(fine, _turned(structure[part[rows]], mirrored[rows]))
            better = as_crop > fits[rows]
            fits[rows] = np.where(better, as_crop, fits[rows])
            values[rows] = np.where(better, agreements, values[rows])
    return values


def _turned(images: Floats, mirrored: NDArray[np.bool_]) -> Floats:
    """[P, F, F], those that are to be mirrored so."""
    turned: Floats = np.where(mirrored[:, None, None], images[:, :, ::-1], images)
    return turned


def _near(a: float, b: float) -> bool:
    return max(a, b) <= MAX_ASPECT_CHANGE * min(a, b)


def _candidates(stats: Sequence[ImageStats]) -> Iterator[tuple[int, int, bool]]:
    """(later, earlier, mirrored) of the pairs that look alike from afar, the nearest of each image."""
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
                    if alike[row - start, column] >= LOOKS_ALIKE:
                        yield int(index[row]), int(index[column]), mirrored


def _coarse(thumbnail: NDArray[np.uint8]) -> Floats:
    cell = THUMBNAIL // COARSE
    means: Floats = thumbnail.reshape(COARSE, cell, COARSE, cell).mean(axis=(1, 3), dtype=np.float32)
    return means


def _standardised(images: Floats) -> Floats:
    """[…, H, W] to […, H * W] of mean 0 and length 1, so that products are correlations."""
    flat = images.reshape(*images.shape[:-2], -1)
    flat = flat - flat.mean(axis=-1, keepdims=True)
    standard: Floats = flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-6)
    return standard


def _parts(images: Floats, shares: Sequence[float], side: int) -> Floats:
    """[M, N, side, side] of [M, T, T]: the parts that have these shares of the sides, in steps from one end
    to the other."""
    parts = []
    for share in shares:
        cuts = _cuts(share, side)  # [O, side, T]
        flat = cuts.reshape(-1, THUMBNAIL)
        both = (flat @ images) @ flat.T  # [M, O * side, O * side]
        grid = both.reshape(len(images), len(cuts), side, len(cuts), side).swapaxes(2, 3)
        parts.append(grid.reshape(len(images), -1, side, side))
    return np.concatenate(parts, axis=1)


def _fine(images: Floats) -> Floats:
    """[…, F, F] to what remains without the smooth part, each place measured by the scatter around it: a hard
    outline counts no more than a faint pattern."""
    mean = _smoothed(images)
    variance = _smoothed(np.square(images)) - np.square(mean)
    structure: Floats = ((images - mean) / np.sqrt(np.maximum(variance, 0) + FAINT**2)).astype(np.float32)
    return structure


def _smoothed(images: Floats) -> Floats:
    """The mean around each place, along one side and then the other."""
    smoothed: Floats = _smoothing() @ (images.reshape(-1, FINE) @ _smoothing().T).reshape(images.shape)
    return smoothed


def _fit(wholes: Floats, parts: Floats) -> tuple[Floats, Floats]:
    """Of the structures [P, N, F, F] those that fit [P, F, F] best: the correlations with them, and their
    agreements, [P] each."""
    correlations = _correlations(wholes, parts)
    best = correlations.argmax(axis=1)
    rows = np.arange(len(parts))
    return correlations[rows, best], _agreements(wholes[rows, best], parts)


def _correlations(wholes: Floats, parts: Floats) -> Floats:
    """[P, N], of [P, N, F, F] with [P, F, F]."""
    correlations: Floats = (_standardised(wholes) @ _standardised(parts)[:, :, None])[:, :, 0]
    return correlations


def _agreements(a: Floats, b: Floats) -> Floats:
    """[P], how well two structures [P, F, F] agree in the tenth of their cells where they do so least. Two
    things of one outline agree along it, and nowhere within."""
    n = FINE // CELL
    x, y = (s.reshape(-1, n, CELL, n, CELL).swapaxes(2, 3).reshape(-1, n * n, CELL * CELL) for s in (a, b))
    xx, yy, xy = (np.einsum("pci,pci->pc", *two) for two in ((x, x), (y, y), (x, y)))
    filled = np.maximum(xx, yy) > EMPTY * CELL * CELL
    # Empty cells last, where the percentile of the others doesn't reach them.
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
    """[O, side, T]: what scales this share of a side, from one end of it to the other."""
    starts = [(1 - share) * i / OFFSETS for i in range(OFFSETS + 1)] if share < 1 else [0.0]
    each = Image.fromarray(np.eye(THUMBNAIL, dtype=np.float32))
    boxes = [(0, start * THUMBNAIL, THUMBNAIL, (start + share) * THUMBNAIL) for start in starts]
    cuts = [np.asarray(each.resize((THUMBNAIL, side), Image.Resampling.BOX, box=box)) for box in boxes]
    return np.stack(cuts)


@cache
def _smoothing() -> Floats:
    """[F, F]: the mean of the neighbours along one side."""
    offsets = np.abs(np.arange(FINE)[:, None] - np.arange(FINE)[None])
    near = (offsets <= SMOOTH).astype(np.float32)
    mean: Floats = near / near.sum(axis=1, keepdims=True)
    return mean
