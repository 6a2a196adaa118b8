"""Which pictures are the same picture: saved anew, scaled, mirrored or slightly cropped.

All pairs are compared as 16 x 16 greys, one matrix product; the nearest few of each are then looked at
more closely: the fine structure of two pictures of different things has nothing in common, however
alike their outlines are.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.clip.sketch import LEAST_CONTRAST, THUMBNAIL, Sketch

Floats = NDArray[np.float32]
Pair = tuple[int, int, bool]
"""The earlier one, the later one, mirrored."""

COARSE = 16
NEIGHBOURS = 3
"""Of each picture so many earlier ones are looked at closely, and as many mirrored."""
LOOKS_ALIKE = 0.85
"""Correlation of the coarse greys from which a pair is looked at closely."""
SAME = 0.6
"""Correlation of the fine structure, nearly everywhere, from which two pictures are one."""
CERTAIN = 0.85
"""From here on no crop is tried."""
LONGER = 1.25
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
"""Side of the cells, of FINE, in which two pictures are compared: all but a tenth of them must agree."""
EMPTY = 0.05
"""Mean square of the structure below which there is none in a cell."""
BLOCK = 512


@dataclass(frozen=True)
class Twin:
    first: int
    second: int
    """Indices of the two, the first being the smaller one."""
    likeness: float
    """Correlation of their fine structure in the cells of the lowest tenth, in SAME … 1."""
    mirrored: bool


def find_twins(sketches: Sequence[Sketch]) -> list[Twin]:
    """For each picture that is an earlier one again the most alike of those."""
    pairs = [
        (first, second, mirrored)
        for second, first, mirrored in _candidates(sketches)
        if _near(sketches[first].longer, sketches[second].longer)
    ]
    structure = {
        i: _fine(_parts(sketches[i].thumbnail, [1.0])) for i in {i for pair in pairs for i in pair[:2]}
    }  # [1, F, F] each
    fits = {pair: _fit(structure[pair[0]], structure[pair[1]][0], pair[2]) for pair in pairs}
    to_crop: dict[int, list[tuple[Pair, int]]] = defaultdict(list)
    for pair, fit in fits.items():
        if fit[1] < CERTAIN:
            first, second, _ = pair  # either may be a crop of the other
            to_crop[first].append((pair, second))
            to_crop[second].append((pair, first))
    for whole, parts in to_crop.items():
        crops = _fine(_parts(sketches[whole].thumbnail, CROPS))
        for pair, part in parts:
            fits[pair] = max(fits[pair], _fit(crops, structure[part][0], pair[2]))
    found: dict[int, Twin] = {}
    for (first, second, mirrored), (_, value) in fits.items():
        if value >= SAME and (second not in found or value > found[second].likeness):
            found[second] = Twin(first, second, min(value, 1.0), mirrored)
    return [found[second] for second in sorted(found)]


def _near(a: float, b: float) -> bool:
    return max(a, b) <= LONGER * min(a, b)


def _candidates(sketches: Sequence[Sketch]) -> Iterator[tuple[int, int, bool]]:
    """(later, earlier, mirrored) of the pairs that look alike from afar, the nearest of each picture."""
    seen = [i for i, s in enumerate(sketches) if s.contrast >= LEAST_CONTRAST]
    if not seen:
        return
    index = np.array(seen)
    thumbnails = np.stack([_coarse(sketches[i].thumbnail) for i in seen])  # [N, 16, 16]
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


def _standardised(pictures: Floats) -> Floats:
    """[N, H, W] to [N, H * W] of mean 0 and length 1, so that products are correlations."""
    flat = pictures.reshape(len(pictures), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    standard: Floats = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return standard


def _parts(thumbnail: NDArray[np.uint8], shares: Sequence[float]) -> Floats:
    """[N, F, F]: the parts of a picture that have these shares of its sides, in steps from one end to the
    other."""
    picture = thumbnail.astype(np.float32)
    parts = []
    for share in shares:
        cuts = _cuts(share)  # [O, F, T]
        rows = cuts @ picture  # [O, F, T], from each height
        parts.append((rows[:, None] @ cuts.swapaxes(1, 2)[None]).reshape(-1, FINE, FINE))
    return np.concatenate(parts)


def _fine(pictures: Floats) -> Floats:
    """[N, F, F] to what remains without the smooth part, each place measured by the scatter around it: a
    hard outline counts no more than a faint pattern."""
    mean = _smoothed(pictures)
    variance = _smoothed(np.square(pictures)) - np.square(mean)
    scatter = np.sqrt(np.maximum(variance, 0) + np.float32(FAINT**2))
    structure: Floats = ((pictures - mean) / scatter).astype(np.float32)
    return structure


def _smoothed(pictures: Floats) -> Floats:
    """The mean around each place, as two large products: [N * F, F] along one side, then the other."""
    for _ in range(2):
        rows = pictures.reshape(-1, FINE) @ _smoothing().T
        pictures = rows.reshape(-1, FINE, FINE).swapaxes(1, 2)
    return pictures


def _fit(wholes: Floats, part: Floats, mirrored: bool) -> tuple[float, float]:
    """Of the structure [N, F, F] that fits [F, F] best: its correlation with it, and their agreement."""
    if mirrored:
        part = part[:, ::-1]
    correlations = _standardised(wholes) @ _standardised(part[None])[0]
    best = int(correlations.argmax())
    return float(correlations[best]), _agreement(wholes[best], part)


def _agreement(a: Floats, b: Floats) -> float:
    """How well two structures [F, F] agree in the tenth of their cells where they do so least. Two things
    of one outline agree along it, and nowhere within."""
    x, y = (
        s.reshape(FINE // CELL, CELL, FINE // CELL, CELL).swapaxes(1, 2).reshape(-1, CELL * CELL)
        for s in (a, b)
    )
    filled = np.maximum(np.square(x).mean(axis=1), np.square(y).mean(axis=1)) > EMPTY
    if not filled.any():
        return 0.0
    x, y = x[filled], y[filled]
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return float(np.percentile((x * y).sum(axis=1) / np.maximum(lengths, 1e-6), 10))


@cache
def _cuts(share: float) -> Floats:
    """[O, F, T]: what scales this share of a side to FINE, from one end of the side to the other."""
    starts = [(1 - share) * i / OFFSETS for i in range(OFFSETS + 1)] if share < 1 else [0.0]
    each = Image.fromarray(np.eye(THUMBNAIL, dtype=np.float32))
    boxes = [(0, start * THUMBNAIL, THUMBNAIL, (start + share) * THUMBNAIL) for start in starts]
    cuts = [np.asarray(each.resize((THUMBNAIL, FINE), Image.Resampling.BOX, box=box)) for box in boxes]
    return np.stack(cuts)


@cache
def _smoothing() -> Floats:
    """[F, F]: the mean of the neighbours along one side."""
    offsets = np.abs(np.arange(FINE)[:, None] - np.arange(FINE)[None])
    near = (offsets <= SMOOTH).astype(np.float32)
    mean: Floats = near / near.sum(axis=1, keepdims=True)
    return mean
