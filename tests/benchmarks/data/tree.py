"""Small trees in the papers' layouts, with real images."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.data.layouts import read_split_file
from benchmarks.data.papers import ELEVEN, IMAGENET_VARIANTS

Row = tuple[str, int, str]
"""Path below the image folder, label, class name."""


def write_image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (2, 2), "teal").save(path, "JPEG")
    return path


def write_split(folder: Path, split: str, images: str, halves: Mapping[str, Sequence[Row]]) -> None:
    for rows in halves.values():
        for path, _, _ in rows:
            write_image(folder / images / path)
    (folder / split).write_text(json.dumps({"train": [], "val": [], "test": []} | dict(halves)))


def write_class_names(folder: Path, names: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classnames.txt").write_text("".join(f"{key} {name}\n" for key, name in names.items()))


def write_papers(root: Path, *, classes: int = 4, per_class: int = 2) -> Path:
    """Write all data sets of the papers, with noise images around one colour per class."""
    generator = np.random.default_rng(0)

    def images(folder: Path, names: Sequence[str]) -> None:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            colour = generator.integers(0, 160, 3)
            pixels = colour + generator.integers(0, 96, (40, 48, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name, "JPEG")

    labels = range(classes)
    wordnet = {f"n{label:08}": f"object {label}" for label in labels}
    for spec in [*ELEVEN.values(), *IMAGENET_VARIANTS.values()]:
        folder = root / spec.folder
        if isinstance(spec.layout, partial) and spec.layout.func is read_split_file:
            settings = spec.layout.keywords
            halves = {
                half: [
                    (f"{label}/{half}{i}.jpg", label, f"kind_{label}")
                    for label in labels
                    for i in range(per_class)
                ]
                for half in ("train", "test")
            }
            for rows in halves.values():
                images(folder / settings["images"], [path for path, _, _ in rows])
            (folder / settings["split"]).write_text(json.dumps({**halves, "val": []}))
        elif spec.folder == "fgvc_aircraft":
            folder.mkdir()
            (folder / "variants.txt").write_text("".join(f"7{label}7-200\n" for label in labels))
            for half in ("train", "test"):
                numbers = {f"{half}{label}{i}": label for label in labels for i in range(per_class)}
                images(folder / "images", [f"{number}.jpg" for number in numbers])
                lines = "".join(f"{number} 7{label}7-200\n" for number, label in numbers.items())
                (folder / f"images_variant_{half}.txt").write_text(lines)
        else:
            write_class_names(folder, wordnet)
            if spec.folder == "imagenet":
                parts, names = ["images/train", "images/val"], [*wordnet]
            elif spec.folder == "imagenetv2":
                parts, names = [spec.layout.keywords["images"]], [str(label) for label in labels]  # type: ignore[attr-defined]
            else:
                parts, names = [spec.layout.keywords["images"]], [*wordnet]  # type: ignore[attr-defined]
            for part in parts:
                images(folder / part, [f"{name}/{i}.jpg" for name in names for i in range(per_class)])
    return root
