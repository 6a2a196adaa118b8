"""Statistics of an image for the preflight checks: a few numbers, and bits that tell copies.

The bits are 256: whether each of the lowest frequencies of its thumbnail is above their median. This is
`phash` of the package imagehash with `hash_size=16`.

The thresholds were set on real images with planted faults; see benchmarks/pages/preflight-and-preview.md.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from clipcite.types.images import ImageStats

SIDE = 128
"""Shorter side at which images are checked (pixels). Image towers see 160 to 336."""
THUMBNAIL = 64
GRID = 16
FREQUENCIES = 16
"""Number of the lowest frequencies per side."""
MIN_CONTRAST = 2.0
"""Contrast below which an image counts as blank (standard deviation, grey levels)."""


def measure_image(image: Image.Image) -> ImageStats:
    """Measure an upright image, preferably opened with `shortest_side=SIDE` and `grey=True`."""
    grey = image.convert("L")
    shorter, longer = sorted(grey.size)
    thumbnail = np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX, reducing_gap=1.0))
    contrast = float(np.asarray(grey).std())
    sharpness = coverage = 1.0
    if shorter >= 3 and contrast >= MIN_CONTRAST:
        greys = np.asarray(grey).astype(np.int16)  # [H, W]
        sharpness, coverage = _sharpness(greys), _subject_coverage(greys)
    pattern, mirrored = _patterns(thumbnail)
    return ImageStats(
        shorter,
        longer / shorter,
        contrast,
        sharpness,
        coverage,
        thumbnail=hashlib.sha256(thumbnail.tobytes()).hexdigest(),
        pattern=pattern,
        mirrored_pattern=mirrored,
    )


def _patterns(thumbnail: NDArray[np.uint8]) -> tuple[str, str]:
    """Return the bits of the image and of its mirror image."""
    both = np.stack([thumbnail, thumbnail[:, ::-1]]).astype(np.float32)
    low = dctn(both, axes=(1, 2))[:, :FREQUENCIES, :FREQUENCIES].reshape(2, -1)
    pattern, mirrored = np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1)
    return pattern.tobytes().hex(), mirrored.tobytes().hex()


def _sharpness(greys: NDArray[np.int16]) -> float:
    """Return the ratio of Laplacian to gradient, each at its 99th percentile.

    The percentile measures the edges independently of their number: a plain shirt on a plain wall is as sharp
    as a forest. When blur spreads an edge, the second derivative falls faster than the first.
    """
    centre = greys[1:-1, 1:-1]
    left, right, above, below = greys[1:-1, :-2], greys[1:-1, 2:], greys[:-2, 1:-1], greys[2:, 1:-1]
    second = _percentile_99(np.abs(left + right + above + below - 4 * centre).astype(np.int32))
    across, along = (right - left).astype(np.int32), (below - above).astype(np.int32)
    first = _percentile_99(across * across + along * along) ** 0.5
    return float(second / first) if first > 0 else 1.0


def _percentile_99(values: NDArray[np.int32]) -> int:
    """Return the 99th percentile.

    NumPy sorts 32-bit integers with vector instructions. `partition` is slow if most values are equal, as on
    a plain background.
    """
    ordered = np.sort(values, axis=None)
    return int(ordered[int(0.99 * (len(ordered) - 1))])


def _subject_coverage(greys: NDArray[np.int16]) -> float:
    """Return the participation ratio (Σe)² / n Σe² of the edge strengths e of n cells.

    The ratio is 1 for edges of equal strength everywhere, and k/n if they fill k cells and the rest is plain.
    """
    edges = np.abs(np.diff(greys, axis=1))[:-1] + np.abs(np.diff(greys, axis=0))[:, :-1]
    n = min(GRID, *edges.shape)
    height, width = (side // n for side in edges.shape)
    rows = edges[: n * height, : n * width].reshape(n, height, n * width).sum(axis=1, dtype=np.int32)
    cells = rows.reshape(n, n, width).sum(axis=2).astype(np.float64)
    squares = float(np.square(cells).sum())
    return float(cells.sum()) ** 2 / (squares * n * n) if squares > 0 else 1.0
