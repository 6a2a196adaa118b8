"""Class folders of images around one colour per class."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (30, 60, 230), "green": (30, 200, 40), "grey": (120, 120, 120), "red": (220, 30, 30)}


def folder_of(root: Path, names: list[str], train: int = 2, test: int = 3) -> Path:
    generator = np.random.default_rng(0)
    for name in names:
        for part, count in (("train", train), ("test", test)):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                values = generator.normal(COLOURS[name], 25, (40, 40, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(values).save(root / part / name / f"{i}.png")
    return root
