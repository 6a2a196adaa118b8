"""Write public images as class folders, as `benchmarks.data.folders` reads them.

    python -m benchmarks.data.prepare digits FOLDER
    python -m benchmarks.data.prepare signs FOLDER --source CHECKOUT
    python -m benchmarks.data.prepare imagenet FOLDER --source CHECKOUT

digits: the 8 × 8 digits of scikit-learn (E. Alpaydin and C. Kaynak, UCI, CC BY 4.0), enlarged to 128 pixels.
signs: a checkout of github.com/ardamavi/Sign-Language-Digits-Dataset (Apache-2.0).
imagenet: a checkout of github.com/EliSchwartz/imagenet-sample-images, one image per class of ImageNet (terms
of ImageNet: research only). It gives `test/<number of the class>/`; the class names are open_clip's.

The classes of digits and signs get 24 training and 60 test images each, drawn with a fixed seed from the
sorted images.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

TRAIN, TEST = 24, 60
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIDE = 128


def digits(folder: Path) -> None:
    """Write the handwritten digits that scikit-learn ships."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    data = load_digits()
    for label, number in enumerate(NUMBERS):
        rows = np.flatnonzero(data.target == label)
        for half, drawn in _drawn(len(rows)).items():
            target = folder / half / f"handwritten number {number}"
            target.mkdir(parents=True)
            for row in rows[drawn]:
                grey = np.uint8(255 - np.minimum(255, 16 * data.images[row]))
                image = Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
                image.convert("RGB").save(target / f"{row:04d}.png")


def signs(folder: Path, source: Path) -> None:
    """Copy the hand signs of the numbers 0 to 9."""
    for label, number in enumerate(NUMBERS):
        images = sorted((source / "Dataset" / str(label)).iterdir())
        for half, drawn in _drawn(len(images)).items():
            target = folder / half / f"hand sign for the number {number}"
            target.mkdir(parents=True)
            for i in drawn:
                shutil.copyfile(images[i], target / images[i].name)


def imagenet(folder: Path, source: Path) -> None:
    """Copy one image per class of ImageNet, in the order of the classes, which is that of the file names."""
    images = sorted(source.glob("n*.JPEG"))
    if len(images) != 1000:
        raise SystemExit(f"{source} has {len(images)} images n*.JPEG, not 1,000. Check out the repository.")
    for number, image in enumerate(images):
        target = folder / "test" / f"{number:03d}"
        target.mkdir(parents=True)
        shutil.copyfile(image, target / image.name)


def _drawn(count: int) -> dict[str, np.ndarray]:
    order = np.random.default_rng(0).permutation(count)
    return {"train": order[:TRAIN], "test": order[TRAIN : TRAIN + TEST]}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=["digits", "signs", "imagenet"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", type=Path, help="checkout of the repository (signs, imagenet)")
    options = parser.parse_args(arguments)
    if options.folder.exists():
        raise SystemExit(f"{options.folder} exists. Name a new folder.")
    if options.name == "digits":
        digits(options.folder)
    elif options.source is None:
        raise SystemExit(f"{options.name} needs --source CHECKOUT.")
    else:
        {"signs": signs, "imagenet": imagenet}[options.name](options.folder, options.source)


if __name__ == "__main__":
    main()
