"""What the preflight costs, beside decoding alone.

    python -m benchmarks.checks.cost --data clothing cifar10 stamps

Milliseconds of one core for an image, so that they hold on a busy computer too: of the images as they are
and of some that were enlarged to 12 million pixels, as a camera's have. Then the same for 5,000 images,
which is the most in one upload, nearly all of them alike.
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
"""Pixels of the shorter side of a camera's images."""
MAX_IMAGES = 5_000
TIMES = 3


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders with train/ and test/")
    given = parser.parse_args(arguments)
    print("| images | decoded for the network | decoded whole | decoded and looked at |")
    looked: list[CheckedImage] = []
    for folder in given.data:
        data = read_folders(folder)
        paths = [example.path for example in [*data.train, *data.test]]
        contents = [path.read_bytes() for path in paths]
        looked += [_looked(content, len(looked) + i) for i, content in enumerate(contents)]
        for name, some in (("", contents[::4]), (f", {LARGE:,} pixels", enlarged(paths[::60][:20]))):
            cells = " | ".join(f"{value:.2f}" for value in cost(some))
            print(f"| {folder.name}{name} | {cells} |", flush=True)
    print(f"| {MAX_IMAGES:,} images, pairs only | – | – | {many(looked):.2f} |")


def cost(contents: Sequence[bytes]) -> tuple[float, float, float]:
    """Of an image: decoding it as far as the network needs it, decoding all of it, and the whole look,
    which decodes it as well."""

    def look() -> None:
        check_images([_looked(content, i) for i, content in enumerate(contents)], SIZE)

    needed = 2 * (SIZE or 0) or None
    return (
        _milliseconds(lambda: [open_image(c, shortest_side=needed) for c in contents], len(contents)),
        _milliseconds(lambda: [open_image(c) for c in contents], len(contents)),
        _milliseconds(look, len(contents)),
    )


def enlarged(paths: Sequence[Path]) -> list[bytes]:
    """As large as a camera's."""
    contents = []
    for path in paths:
        image, buffer = open_image(path), io.BytesIO()
        width, height = (round(side * LARGE / min(image.size)) for side in image.size)
        larger = image.resize((width, height), Image.Resampling.BICUBIC)
        larger.save(buffer, "JPEG", quality=90)
        contents.append(buffer.getvalue())
    return contents


def many(images: Sequence[CheckedImage]) -> float:
    """Of each of as many images as an upload may have, what comparing them takes."""
    noise = np.random.default_rng(0)

    def another(i: int) -> CheckedImage:
        of = images[i % len(images)]
        seen = of.stats.thumbnail
        changed = np.clip(seen + noise.normal(0, 12, seen.shape), 0, 255).astype(np.uint8)
        return replace(of, sha256=str(i), stats=replace(of.stats, thumbnail=changed))

    different = [another(i) for i in range(MAX_IMAGES)]
    return _milliseconds(lambda: check_images(different, SIZE), MAX_IMAGES, times=1)


def _looked(content: bytes, i: int) -> CheckedImage:
    return CheckedImage("", "", "train", str(i), sketched(content))


def _milliseconds(work: Callable[[], object], images: int, times: int = TIMES) -> float:
    """Of one core for an image, the least of so many times."""
    seconds = []
    for _ in range(times):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return 1000 * min(seconds) / images


if __name__ == "__main__":
    main()
