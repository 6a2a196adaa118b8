"""Class folders of images around one colour per class."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.core.clip.shots import COLOURS

__all__ = ["COLOURS", "folder_of"]


def folder_of(root: Path, names: list[str], train: int = 2, test: int = 3) -> Path:
    generator = np.random.default_rng(0)
    for name in names:
        for part, count in (("train", train), ("test", test)):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                values = generator.normal(COLOURS[name], 25, (40, 40, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(values).save(root / part / name / f"{i}.png")
    return root
