"""Parts: metal parts on a bench, drawn with random pose, light, material and wear."""

import io
import math
import random
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

SIDE = 224
SCALE = 3
"""Factor by which the shape is drawn larger, against jagged edges."""
UNIT = SIDE * SCALE / 2
"""Pixels per unit of the shapes, which lie within -1 to 1."""
METALS = ((188, 192, 198), (205, 205, 205), (196, 164, 96), (176, 118, 82), (84, 86, 92), (150, 156, 166))
BENCHES = ((226, 222, 212), (198, 184, 160), (120, 130, 140), (70, 92, 116), (92, 112, 90), (236, 236, 236))
Mask = Image.Image
Point = tuple[float, float]


def load(class_name: str, number: int) -> bytes:
    """Return a drawing as JPEG. Equal arguments give an equal drawing."""
    dice = random.Random(f"{class_name} {number}")
    noise = np.random.default_rng(dice.getrandbits(32))
    content = io.BytesIO()
    _photograph(_posed(SHAPES[class_name](dice), dice), dice, noise).save(content, "JPEG", quality=90)
    return content.getvalue()


# Shapes: white on black, lying flat, within -1 to 1.


def _washer(dice: random.Random) -> Mask:
    outer = dice.uniform(0.6, 0.78)
    mask, draw = _canvas()
    _disc(draw, outer, 255)
    _disc(draw, outer * dice.uniform(0.42, 0.62), 0)
    return mask


def _nut(dice: random.Random) -> Mask:
    mask, draw = _canvas()
    outer = dice.uniform(0.62, 0.78)
    draw.polygon(_pixels([_polar(outer, math.tau * i / 6) for i in range(6)]), fill=255)
    _disc(draw, outer * dice.uniform(0.45, 0.58), 0)
    return mask


def _gear(dice: random.Random) -> Mask:
    mask, draw = _canvas()
    teeth = dice.randint(10, 22)
    outer = dice.uniform(0.66, 0.8)
    inner = outer * dice.uniform(0.76, 0.86)
    step = math.tau / teeth
    profile = ((inner, 0.0), (inner, 0.3), (outer, 0.42), (outer, 0.78), (inner, 0.9))
    draw.polygon(
        _pixels([_polar(r, step * (i + share)) for i in range(teeth) for r, share in profile]), fill=255
    )
    _disc(draw, outer * dice.uniform(0.14, 0.3), 0)
    if dice.random() < 0.5:
        holes = dice.randint(3, 6)
        for i in range(holes):
            _disc(draw, outer * 0.11, 0, _polar(outer * 0.52, math.tau * i / holes))
    return mask


def _bracket(dice: random.Random) -> Mask:
    mask, draw = _canvas()
    long, short, width = dice.uniform(1.2, 1.5), dice.uniform(0.8, 1.3), dice.uniform(0.3, 0.42)
    left, top = -long / 2, -short / 2
    corner = (left, top, left + long, top + width)
    radius = 0.4 * width * UNIT * dice.random()
    draw.rounded_rectangle(_box(*corner), radius, fill=255)
    draw.rounded_rectangle(_box(left, top, left + width, top + short), radius, fill=255)
    hole = width * dice.uniform(0.16, 0.24)
    for share in (0.5, 0.92):
        _disc(draw, hole, 0, (left + long * share - 0.02, top + width / 2))
        _disc(draw, hole, 0, (left + width / 2, top + short * share - 0.02))
    return mask


def _screw(dice: random.Random) -> Mask:
    mask, draw = _canvas()
    length, shank, head = dice.uniform(1.1, 1.4), dice.uniform(0.1, 0.15), dice.uniform(0.26, 0.36)
    start, end = -length / 2, length / 2
    deep = head * dice.uniform(0.55, 0.9)
    draw.rounded_rectangle(_box(start - deep, -head, start, head), 0.3 * deep * UNIT, fill=255)
    pitch = dice.uniform(0.06, 0.09)
    upper: list[Point] = [(start, -shank)]
    x = start + length * dice.choice((0.0, 0.3))
    while x < end - 0.12:
        upper += [(x, -shank), (x + pitch / 2, -shank * 1.45)]
        x += pitch
    upper.append((end, 0.0))
    lower = [(x + pitch / 2, -y) for x, y in reversed(upper[:-1])]
    draw.polygon(_pixels([*upper, *lower, (start, shank)]), fill=255)
    return mask


SHAPES: dict[str, Callable[[random.Random], Mask]] = {
    "washer": _washer,
    "nut": _nut,
    "gear": _gear,
    "bracket": _bracket,
    "screw": _screw,
}


def _canvas() -> tuple[Mask, ImageDraw.ImageDraw]:
    mask = Image.new("L", (SIDE * SCALE, SIDE * SCALE))
    return mask, ImageDraw.Draw(mask)


def _polar(radius: float, angle: float) -> Point:
    return radius * math.cos(angle), radius * math.sin(angle)


def _pixels(points: list[Point]) -> list[Point]:
    return [(UNIT * (1 + x), UNIT * (1 + y)) for x, y in points]


def _box(left: float, top: float, right: float, bottom: float) -> list[Point]:
    return _pixels([(left, top), (right, bottom)])


def _disc(draw: ImageDraw.ImageDraw, radius: float, fill: int, centre: Point = (0.0, 0.0)) -> None:
    x, y = centre
    draw.ellipse(_box(x - radius, y - radius, x + radius, y + radius), fill=fill)


# Pose, light and wear.


def _posed(mask: Mask, dice: random.Random) -> Mask:
    """Rotate, tilt, scale and move the shape."""
    turn, tilt_axis = dice.uniform(0, math.tau), dice.uniform(0, math.tau)
    tilt = math.cos(math.radians(dice.uniform(0, 62)))
    size = dice.uniform(0.5, 1.1)
    axis = _rotation(tilt_axis)
    forward = size * axis @ np.diag([1.0, tilt]) @ axis.T @ _rotation(turn)
    back = np.linalg.inv(forward)
    centre = np.array([UNIT, UNIT])
    shift = np.array([dice.uniform(-0.25, 0.25), dice.uniform(-0.25, 0.25)]) * UNIT
    origin = centre - back @ (centre + shift)
    (a, b), (c, d) = back.tolist()
    return mask.transform(
        mask.size, Image.Transform.AFFINE, (a, b, origin[0], c, d, origin[1]), Image.Resampling.BICUBIC
    )


def _rotation(angle: float) -> NDArray[np.float64]:
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _photograph(mask: Mask, dice: random.Random, noise: np.random.Generator) -> Image.Image:
    """Return the part on a bench: bevelled edges, shadow, scratches, rust, exposure, focus and grain."""
    mask = mask.resize((SIDE, SIDE), Image.Resampling.BOX)
    light = dice.uniform(0, math.tau)
    inside = _array(mask)[..., None]
    height = _array(mask.filter(ImageFilter.GaussianBlur(dice.uniform(1, 2.3))))
    dy, dx = np.gradient(height)
    slope = -np.asarray(dx * math.cos(light) + dy * math.sin(light))[..., None]

    metal = np.array(dice.choice(METALS), np.float32)
    scratches = Image.new("L", mask.size)
    draw = ImageDraw.Draw(scratches)
    for _ in range(dice.randint(0, 14)):
        start = (dice.uniform(0, SIDE), dice.uniform(0, SIDE))
        reach = _polar(dice.uniform(0.05, 0.25) * SIDE, dice.uniform(0, math.tau))
        draw.line([start, (start[0] + reach[0], start[1] + reach[1])], fill=dice.randint(60, 255))
    surface = metal + 26 * _clouds(noise, 5) + 10 * _clouds(noise, 90) + 30 * _array(scratches)[..., None]
    rust = np.clip(_clouds(noise, 8) - dice.uniform(0.4, 2.2), 0, 1)
    surface = surface * (1 - rust) + np.array([122, 74, 42], np.float32) * rust
    surface = surface + dice.uniform(300, 530) * slope

    bench = np.array(dice.choice(BENCHES), np.float32) + 7 * _clouds(noise, 12) + 5 * _clouds(noise, 120)
    x, y = _polar(dice.uniform(2.5, 6), light)
    cast = mask.transform(mask.size, Image.Transform.AFFINE, (1, 0, -x, 0, 1, -y), Image.Resampling.BILINEAR)
    bench *= 1 - 0.55 * _array(cast.filter(ImageFilter.GaussianBlur(dice.uniform(1.5, 3.3))))[..., None]

    ramp = np.linspace(-1, 1, SIDE, dtype=np.float32)
    glow = (ramp[None, :] * math.cos(light) + ramp[:, None] * math.sin(light))[..., None]
    pixels = (surface * inside + bench * (1 - inside)) * (1 - dice.uniform(0.0, 0.22) * glow)
    pixels *= dice.uniform(0.55, 1.15)  # exposure
    sharp = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    focused = np.asarray(sharp.filter(ImageFilter.GaussianBlur(dice.choice((0, 0, 0.8, 1.6)))), np.float32)
    grain = noise.normal(0, dice.uniform(1, 8), (SIDE, SIDE, 1))
    return Image.fromarray(np.clip(focused + grain, 0, 255).astype(np.uint8))


def _array(mask: Mask) -> NDArray[np.float32]:
    """Return a mask as [SIDE, SIDE], from 0 to 1."""
    return np.asarray(mask, np.float32) / np.float32(255)


def _clouds(noise: np.random.Generator, cells: int) -> NDArray[np.float32]:
    """Return smooth noise [SIDE, SIDE, 1] of unit variance per cell."""
    field = Image.fromarray(noise.normal(size=(cells, cells)).astype(np.float32))
    smooth = field.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(smooth, np.float32).reshape(SIDE, SIDE, 1)
