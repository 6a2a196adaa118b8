"""Statistics of an image for the preflight checks: 4 kB of thumbnail and a few numbers.

The thresholds were set on real images with planted faults; see benchmarks/pages/preflight-and-preview.md.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 128
"""Shorter side at which images are checked (pixels). Image towers see 160 to 336."""
THUMBNAIL = 64
GRID = 16
MIN_CONTRAST = 2.0
"""Contrast below which an image counts as blank (standard deviation, grey levels)."""


@dataclass(frozen=True)
class ImageStats:
    """Statistics of one image."""

    shorter_side: int
    """Shorter side (pixels); at most SIDE if opened with `shortest_side=SIDE`."""
    aspect_ratio: float
    """Longer side divided by shorter side."""
    contrast: float
    """Standard deviation of the grey levels, 0 to 128."""
    sharpness: float
    """Sharpness of the strongest edges: about 0.6 to 1.2 in focus, below 0.46 out of focus."""
    subject_coverage: float
    """Approximate share of the image that the subject covers, 0 to 1."""
    thumbnail: NDArray[np.uint8]
    """Grey levels [THUMBNAIL, THUMBNAIL], independent of the aspect ratio."""


def measure_image(image: Image.Image) -> ImageStats:
    """Measure an upright image, preferably opened with `shortest_side=SIDE` and `grey=True`."""
    grey = image.convert("L")
    shorter, longer = sorted(grey.size)
    thumbnail = np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX, reducing_gap=1.0))
    contrast = float(np.asarray(grey).std())
    if shorter < 3 or contrast < MIN_CONTRAST:
        return ImageStats(shorter, longer / shorter, contrast, 1.0, 1.0, thumbnail)
    greys = np.asarray(grey).astype(np.int16)  # [H, W]
    return ImageStats(
        shorter, longer / shorter, contrast, _sharpness(greys), _subject_coverage(greys), thumbnail
    )


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
