"""Noisy images around one colour per class, and the settings of a training of seconds."""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image as Pillow

from clipcite.types.images import Image
from core.clip.config import AdaptConfig, resolve_config

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 60, 230), "grey": (120, 120, 120)}


def shot(name: str, seed: int, class_name: str | None = None, size: tuple[int, int] = (48, 40)) -> Image:
    """Return a noisy image of this colour as a file."""
    values = np.random.default_rng(seed).normal(COLOURS[name], 25, (size[1], size[0], 3))
    file = BytesIO()
    Pillow.fromarray(values.clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return Image(file.getvalue(), class_name or name)


def shots(*names: str, each: int = 4, seed: int = 0) -> list[Image]:
    return [shot(name, seed + 100 * i + len(name)) for i in range(each) for name in names]


def as_tests(images: Sequence[Image]) -> list[Image]:
    return [replace(image, split="test") for image in images]


def config(**given: Any) -> AdaptConfig:
    settings: dict[str, Any] = {
        "backbone": "local-dir:tiny",
        "epochs": 6,
        "batch_size": 6,
        "learning_rate": 1e-3,
        "classifier_learning_rate": 1e-2,
        "precision": "fp32",
    }
    return resolve_config(**{**settings, **given})
