"""Sharp, detailed test images; each seed gives a different one."""

import numpy as np
from PIL import Image, ImageDraw


def drawn(seed: int, width: int = 200, height: int = 150) -> Image.Image:
    """Draw shapes of all sizes and colours over a gradient."""
    random = np.random.default_rng(seed)
    slope = np.linspace(*random.integers(0, 256, 2), width * height).reshape(height, width).astype(np.uint8)
    image = Image.fromarray(slope).convert("RGB")
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        x, y = int(random.integers(-20, width)), int(random.integers(-20, height))
        w, h = random.integers(4, 60, 2).tolist()
        colour = tuple(random.integers(0, 256, 3).tolist())
        shape = draw.ellipse if random.random() < 0.5 else draw.rectangle
        shape((x, y, x + w, y + h), fill=colour)
    return image
