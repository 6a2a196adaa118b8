"""Small trees in the papers' layouts, with real images."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

Row = tuple[str, int, str]
"""Path below the image folder, label, class name."""


def write_image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (2, 2), "teal").save(path, "JPEG")
    return path


def write_split(folder: Path, split: str, images: str, halves: Mapping[str, Sequence[Row]]) -> None:
    """Write a split file and all images that it names."""
    for rows in halves.values():
        for path, _, _ in rows:
            write_image(folder / images / path)
    (folder / split).write_text(json.dumps({"train": [], "val": [], "test": []} | dict(halves)))


def write_class_names(folder: Path, names: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classnames.txt").write_text("".join(f"{key} {name}\n" for key, name in names.items()))
