"""What a preflight keeps of an image: four kilobytes and three numbers, enough to judge it by.

Every threshold here was set on real images with planted faults: see "Preflight" in
benchmarks/README.md.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 128
"""The shorter side, in pixels, at which images are judged. Networks see 160 to 336."""
THUMBNAIL = 64
GRID = 16
MIN_CONTRAST = 2.0
"""Grey levels (standard deviation) below which there is nothing to see."""


@dataclass(frozen=True)
class ImageStats:
    shorter_side: int
    """Pixels, at most SIDE where the image was opened with that as its `shortest_side`."""
    aspect_ratio: float
    """The longer side by the shorter one."""
    contrast: float
    """Standard deviation of the greys, 0 to 128."""
    sharpness: float
    """How abrupt its sharpest edges are: about 0.6 to 1.2 for images in focus, below 0.46 out of it."""
    subject_coverage: float
    """About what share of the image holds all that there is to see, in 0 … 1."""
    thumbnail: NDArray[np.uint8]
    """Greys [THUMBNAIL, THUMBNAIL], whatever the aspect ratio was."""


def measure_image(image: Image.Image) -> ImageStats:
    """Of an upright image, best opened with `shortest_side=SIDE` and `grey`."""
    grey = image.convert("L")
    shorter, longer = sorted(grey.size)
    thumbnail = np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX, reducing_gap=1.0))
    contrast = _contrast(grey)
    if shorter < 3 or contrast < MIN_CONTRAST:
        return ImageStats(shorter, longer / shorter, contrast, 1.0, 1.0, thumbnail)
    greys = np.asarray(grey).astype(np.int16)  # [H, W]
    return ImageStats(shorter, longer / shorter, contrast, _sharpness(greys), _covered(greys), thumbnail)


def _contrast(grey: Image.Image) -> float:
    counts, levels = np.array(grey.histogram()), np.arange(256)
    mean = counts @ levels / counts.sum()
    return float(np.sqrt(counts @ np.square(levels - mean) / counts.sum()))


def _sharpness(greys: NDArray[np.int16]) -> float:
    """The Laplacian against the gradient, each at its strongest hundredth. Taken there it is a measure of
    the edges, not of how many there are: a plain shirt on a plain wall is as sharp as a forest. Where an
    edge is spread over more pixels the second derivative falls faster than the first."""
    centre = greys[1:-1, 1:-1]
    left, right, above, below = greys[1:-1, :-2], greys[1:-1, 2:], greys[:-2, 1:-1], greys[2:, 1:-1]
    second = _strongest_hundredth(np.abs(left + right + above + below - 4 * centre).astype(np.int32))
    across, along = (right - left).astype(np.int32), (below - above).astype(np.int32)
    first = _strongest_hundredth(across * across + along * along) ** 0.5
    return float(second / first) if first > 0 else 1.0


def _strongest_hundredth(values: NDArray[np.int32]) -> int:
    """The 99th percentile. NumPy sorts whole numbers of 32 bits by vector instructions; `partition` is slow
    where most are alike, on a plain ground."""
    ordered = np.sort(values, axis=None)
    return int(ordered[int(0.99 * (len(ordered) - 1))])


def _covered(greys: NDArray[np.int16]) -> float:
    """The participation ratio (Σe)² / n Σe² of the edges in n cells: 1 if they are everywhere alike, k/n
    if they fill k cells and the others are plain."""
    edges = np.abs(np.diff(greys, axis=1))[:-1] + np.abs(np.diff(greys, axis=0))[:, :-1]
    n = min(GRID, *edges.shape)
    height, width = (side // n for side in edges.shape)
    rows = edges[: n * height, : n * width].reshape(n, height, n * width).sum(axis=1, dtype=np.int32)
    cells = rows.reshape(n, n, width).sum(axis=2).astype(np.float64)
    squares = float(np.square(cells).sum())
    return float(cells.sum()) ** 2 / (squares * n * n) if squares > 0 else 1.0
