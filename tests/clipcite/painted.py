"""Folders of plain images."""

from pathlib import Path

from PIL import Image

COLOURS = {"red": (240, 30, 20), "green": (30, 220, 40), "blue": (20, 40, 235)}


def paint(root: Path, place: str, count: int, ending: str = "png", first: int = 0) -> list[Path]:
    """Paint plain images into a folder named after a colour; an unknown name gives grey."""
    made = []
    colour = COLOURS.get(Path(place).name, (120, 120, 120))
    (root / place).mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        path = root / place / f"{number}.{ending}"
        Image.new("RGB", (48, 40), (*colour[:2], min(255, colour[2] + 3 * number))).save(path)
        made.append(path)
    return made
