"""Names and pictures that nobody trained on, to see what an adaptation has changed elsewhere.

The names are spread over ImageNet's thousand. The pictures are drawn here, since no photograph ships
with the project: they say whether the image tower still sees what it saw, not how well it knows the world.
"""

from collections.abc import Iterable

import numpy as np
from open_clip import IMAGENET_CLASSNAMES
from PIL import Image

from core.clip.prompts import same_class

OTHER_NAMES = 50
DRAWN = 24
SIDE = 224


def other_names(class_names: Iterable[str], most: int = OTHER_NAMES) -> tuple[str, ...]:
    """Up to 50 names, spread over ImageNet's, that share no word with those given."""
    words = {word for name in class_names for word in same_class(name).split()}
    apart = [n for n in dict.fromkeys(IMAGENET_CLASSNAMES) if not words & set(same_class(n).split())]
    every = max(1, len(apart) // most)
    return tuple(apart[::every][:most])


def drawn_pictures() -> list[Image.Image]:
    """24 pictures of a shape on a textured ground, the same ones every time."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    shapes = (
        x**2 + y**2 < 0.4,
        (abs(x) < 0.6) & (abs(y) < 0.6),
        abs(x) + abs(y) < 0.8,
        (abs(y) < 0.2) | (abs(x) < 0.2),
        (x**2 + y**2 < 0.6) & (x**2 + y**2 > 0.3),
        (y > -0.6) & (y < 0.6) & (abs(x) < (0.6 - y) / 1.6),
    )
    pictures = []
    for i in range(DRAWN):
        ground, ink = generator.uniform(0, 255, (2, 3))
        coarse = generator.normal(0, 1, (8, 8)).astype(np.float32)
        texture = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        stripes = np.sin((x + y * (i % 3 - 1)) * (6 + 3 * (i % 4)))
        base = ground + 25 * texture[..., None] + 20 * (i % 2) * stripes[..., None]
        shape = shapes[i % len(shapes)][..., None]
        pixels = np.where(shape, ink + 12 * texture[..., None], base)
        pictures.append(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))
    return pictures
