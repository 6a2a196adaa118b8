"""Write public images as class folders, as `benchmarks.data.folders` reads them.

    python -m benchmarks.data.prepare digits FOLDER
    python -m benchmarks.data.prepare signs FOLDER --source CHECKOUT
    python -m benchmarks.data.prepare imagenet FOLDER --source CHECKOUT
    python -m benchmarks.data.prepare stamps FOLDER --source /usr/share/tuxpaint/stamps
    python -m benchmarks.data.prepare clipart FOLDER --source /usr/share/openclipart/png
    python -m benchmarks.data.prepare symbols FOLDER --source /usr/share/openclipart/png
    python -m benchmarks.data.prepare living FOLDER --source PACKAGES
    python -m benchmarks.data.prepare things FOLDER --source PACKAGES

digits: the 8 × 8 digits of scikit-learn (E. Alpaydin and C. Kaynak, UCI, CC BY 4.0), enlarged to 128 pixels.
signs: a checkout of github.com/ardamavi/Sign-Language-Digits-Dataset (Apache-2.0).
imagenet: a checkout of github.com/EliSchwartz/imagenet-sample-images, one image per class of ImageNet (terms
of ImageNet: research only). It gives `test/<number of the class>/`; the class names are open_clip's.

stamps: Debian's package tuxpaint-stamps-default (GPL and others), 12 of its folders.
clipart, symbols: Debian's package openclipart-png (public domain), 12 and 10 of its folders, on white.
living, things: emoji of the npm packages emoji-datasource-twitter and emoji-datasource-google 16.0.0 (CC BY
4.0, Apache-2.0), unpacked below PACKAGES, ten groups each. Both drawings of an emoji are in the same half.

The classes get at most 60 test images and 24 training images each (drawings 16), drawn with a fixed seed from
the sorted images.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.data.dataset import BadDataSet
from benchmarks.data.stamps import export as stamps

TRAIN, TEST = 24, 60
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIDE = 128
CLIPART = {
    "bird": "animals/birds",
    "boat": "transportation/boating",
    "computer hardware": "computer/hardware",
    "dessert": "food/desserts",
    "drink": "food/beverages",
    "flower": "plants/flowers",
    "fruit": "food/fruit",
    "house": "buildings/homes",
    "insect": "animals/bugs",
    "mammal": "animals/mammals",
    "music": "recreation/music",
    "tool": "tools",
}
SYMBOLS = {
    "arrow": "shapes/arrows",
    "computer button": "computer/buttons",
    "decorative pattern": "special/patterns",
    "national flag": "signs_and_symbols/flags/asia",
    "playing card": "recreation/games/cards/white",
    "smiley face": "people/smilies",
    "sport": "recreation/sports",
    "star": "shapes/stars",
    "stick figure": "people/stickmen",
    "weapon": "tools/weapons",
}
LIVING = {
    "bird": "animal-bird",
    "cooked meal": "food-prepared",
    "dessert": "food-sweet",
    "drink": "drink",
    "flower": "plant-flower",
    "fruit": "food-fruit",
    "insect": "animal-bug",
    "mammal": "animal-mammal",
    "sea animal": "animal-marine",
    "vegetable": "food-vegetable",
}
THINGS = {
    "aircraft": "transport-air",
    "building": "place-building",
    "clock": "time",
    "clothing": "clothing",
    "computer": "computer",
    "land vehicle": "transport-ground",
    "mail": "mail",
    "musical instrument": "musical-instrument",
    "sports equipment": "sport",
    "tool": "tool",
}
DRAWING_TRAIN, DRAWING_SIDE, MIN_SIDE = 16, 320, 16


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
    """Copy one image per class of ImageNet, in the order of the classes and of the file names."""
    images = sorted(source.glob("n*.JPEG"))
    if len(images) != 1000:
        raise SystemExit(f"{source} has {len(images)} images n*.JPEG, not 1,000. Check out the repository.")
    for number, image in enumerate(images):
        target = folder / "test" / f"{number:03d}"
        target.mkdir(parents=True)
        shutil.copyfile(image, target / image.name)


def drawings(folder: Path, source: Path, classes: Mapping[str, str]) -> None:
    """Copy the drawings of some folders. Links, repeated files and those below 16 pixels are left out."""
    for name, part in classes.items():
        found: dict[bytes, Path] = {}
        for path in sorted((source / part).glob("*.png")):
            if not path.is_symlink() and _side(path) >= MIN_SIDE:
                found.setdefault(path.read_bytes(), path)
        paths = list(found.values())
        for half, drawn in _drawn(len(paths), DRAWING_TRAIN).items():
            for i in drawn:
                _on_white(paths[i], folder / half / name / paths[i].name)


def emoji(folder: Path, source: Path, classes: Mapping[str, str]) -> None:
    """Copy both drawings of the emoji of some groups."""
    packages = {style: source / f"emoji-datasource-{style}" for style in ("google", "twitter")}
    known = json.loads((packages["google"] / "emoji.json").read_text(encoding="utf-8"))
    for name, group in classes.items():
        files = sorted(e["image"] for e in known if e["subcategory"] == group)
        for half, drawn in _drawn(len(files), DRAWING_TRAIN // 2).items():
            for file in (files[i] for i in drawn[: TEST // 2]):
                for style, package in packages.items():
                    _on_white(package / "img" / style / "64" / file, folder / half / name / f"{style}-{file}")


def _side(path: Path) -> int:
    with Image.open(path) as opened:
        return min(opened.size)


def _on_white(drawing: Path, target: Path) -> None:
    with Image.open(drawing) as opened:
        image = opened.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    white.thumbnail((DRAWING_SIDE, DRAWING_SIDE))
    target.parent.mkdir(parents=True, exist_ok=True)
    white.convert("RGB").save(target)


def _drawn(count: int, train: int = TRAIN) -> dict[str, np.ndarray]:
    order = np.random.default_rng(0).permutation(count)
    return {"train": order[:train], "test": order[train : train + TEST]}


SOURCES: Mapping[str, Callable[[Path, Path], None]] = {
    "signs": signs,
    "imagenet": imagenet,
    "stamps": stamps,
    "clipart": partial(drawings, classes=CLIPART),
    "symbols": partial(drawings, classes=SYMBOLS),
    "living": partial(emoji, classes=LIVING),
    "things": partial(emoji, classes=THINGS),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=["digits", *SOURCES])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", type=Path, help="checkout or folder of the images (all but digits)")
    options = parser.parse_args(arguments)
    if options.folder.exists():
        raise SystemExit(f"{options.folder} exists. Name a new folder.")
    if options.name == "digits":
        digits(options.folder)
    elif options.source is None:
        raise SystemExit(f"{options.name} needs --source FOLDER.")
    else:
        try:
            SOURCES[options.name](options.folder, options.source)
        except BadDataSet as failure:
            raise SystemExit(str(failure)) from failure


if __name__ == "__main__":
    main()
