"""Cost of the preflight, compared with decoding alone.

    python -m benchmarks.checks.cost --data clothing cifar10 stamps

The unit is milliseconds of CPU time per image, valid on a busy computer too. Images are measured at their own
size and enlarged to 12 million pixels, the size of a camera's. The last row has 5,000 nearly identical
images, the maximum of one upload.
"""

import argparse
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.checks.preflight import SIZE, sketched
from benchmarks.data.folders import read_folders
from core.clip.checks.preflight import CheckedImage, check_images
from core.clip.data.images import open_image

LARGE = 3000
"""Shorter side of a camera's image, in pixels."""
MAX_IMAGES = 5_000
TIMES = 3


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders with train/ and test/")
    options = parser.parse_args(arguments)
    print("| images | decoded for the network | decoded whole | decoded and checked |")
    checked: list[CheckedImage] = []
    for folder in options.data:
        data = read_folders(folder)
        paths = [example.path for example in [*data.train, *data.test]]
        contents = [path.read_bytes() for path in paths]
        checked += [_checked(content, len(checked) + i) for i, content in enumerate(contents)]
        for name, some in (("", contents[::4]), (f", {LARGE:,} pixels", enlarged(paths[::60][:20]))):
            cells = " | ".join(f"{value:.2f}" for value in cost(some))
            print(f"| {folder.name}{name} | {cells} |", flush=True)
    print(f"| {MAX_IMAGES:,} images, pairs only | – | – | {many(checked):.2f} |")


def cost(contents: Sequence[bytes]) -> tuple[float, float, float]:
    """Return milliseconds per image: decoding for the network, decoding in full, decoding and all checks."""

    def check() -> None:
        check_images([_checked(content, i) for i, content in enumerate(contents)], SIZE)

    needed = 2 * (SIZE or 0) or None
    return (
        _milliseconds(lambda: [open_image(c, shortest_side=needed) for c in contents], len(contents)),
        _milliseconds(lambda: [open_image(c) for c in contents], len(contents)),
        _milliseconds(check, len(contents)),
    )


def enlarged(paths: Sequence[Path]) -> list[bytes]:
    """Enlarge the images to a camera's size."""
    contents = []
    for path in paths:
        image, buffer = open_image(path), io.BytesIO()
        width, height = (round(side * LARGE / min(image.size)) for side in image.size)
        larger = image.resize((width, height), Image.Resampling.BICUBIC)
        larger.save(buffer, "JPEG", quality=90)
        contents.append(buffer.getvalue())
    return contents


def many(images: Sequence[CheckedImage]) -> float:
    """Return milliseconds per image to compare the maximum number of images in an upload."""
    noise = np.random.default_rng(0)

    def another(i: int) -> CheckedImage:
        image = images[i % len(images)]
        thumbnail = image.stats.thumbnail
        changed = np.clip(thumbnail + noise.normal(0, 12, thumbnail.shape), 0, 255).astype(np.uint8)
        return replace(image, sha256=str(i), stats=replace(image.stats, thumbnail=changed))

    different = [another(i) for i in range(MAX_IMAGES)]
    return _milliseconds(lambda: check_images(different, SIZE), MAX_IMAGES, times=1)


def _checked(content: bytes, i: int) -> CheckedImage:
    return CheckedImage("", "", "train", str(i), sketched(content))


def _milliseconds(work: Callable[[], object], images: int, times: int = TIMES) -> float:
    """Return milliseconds of CPU time per image, the minimum of `times` runs."""
    seconds = []
    for _ in range(times):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return 1000 * min(seconds) / images


if __name__ == "__main__":
    main()
