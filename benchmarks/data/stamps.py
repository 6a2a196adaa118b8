"""Stamps of the drawing program Tux Paint as class folders (`benchmarks.data.prepare stamps`).

Each of the 12 classes gets 6 training images, so that any half can serve as the trained classes.
"""

import hashlib
from io import BytesIO
from pathlib import Path

from PIL import Image

from benchmarks.data.dataset import BadDataSet

TRAINED_CLASSES = {
    "bird": "animals/birds",
    "fish": "animals/fish",
    "flower": "plants/flowers",
    "insect": "animals/insects",
    "fruit": "food/fruit",
    "vegetable": "food/vegetables",
}
NEW_CLASSES = {
    "hat": "clothes/hats",
    "mammal": "animals/mammals",
    "house": "town/houses",
    "musical instrument": "hobbies/music",
    "tool": "household/tools",
    "electronic device": "household/electronics",
}
SHOTS = 6
MAX_SIDE = 512


def export(folder: Path, stamps: Path) -> None:
    """Write class folders: the first SHOTS images of each class for training, the others for the test.

    Raises:
        BadDataSet: a class has too few images.
    """
    classes = {**TRAINED_CLASSES, **NEW_CLASSES}
    images = {name: _of_class(name, stamps / below) for name, below in classes.items()}
    # The number in a file name counts the shots of the trained classes, then all other images.
    order = [(name, file) for name in TRAINED_CLASSES for file in images[name][:SHOTS]]
    for name in classes:
        order += [(name, file) for file in images[name][SHOTS if name in TRAINED_CLASSES else 0 :]]
    for position, (name, file) in enumerate(order):
        split = "train" if file in images[name][:SHOTS] else "test"
        target = folder / split / name / f"{position:04d}_{file.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(square(file))


def _of_class(name: str, folder: Path) -> list[Path]:
    """Return the images of a class in a reproducible pseudo-random order.

    Neighbours in the alphabet are often alike ("apple_green", "apple_red").
    """
    files = [p for p in folder.rglob("*.png") if not any(w in p.name.lower() for w in ("mirror", "flip"))]
    if len(files) <= SHOTS:
        raise BadDataSet(
            f"{folder} has {len(files)} images of the class {name}; at least {SHOTS + 1} are needed. "
            "This may be another version of the package."
        )
    files.sort(key=lambda file: hashlib.sha256(str(file.relative_to(folder)).encode()).digest())
    return files


def square(file: Path) -> bytes:
    """Return the stamp in the centre of a white square, as PNG."""
    with Image.open(file) as opened:
        stamp = opened.convert("RGBA")
    stamp.thumbnail((MAX_SIDE, MAX_SIDE))
    side = max(stamp.size)
    paper = Image.new("RGB", (side, side), "white")
    paper.paste(stamp, ((side - stamp.width) // 2, (side - stamp.height) // 2), mask=stamp)
    data = BytesIO()
    paper.save(data, "PNG", compress_level=1)
    return data.getvalue()
