"""What a sort shows: its plan as a table, as CSV and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from clipcite.cli.render.tables import table_of
from clipcite.datasets.image import printable
from clipcite.sorting.plan import SOMETHING_ELSE, UNSURE, Place

ORIENTATION, EXIF, TAKEN, CHANGED = 0x0112, 0x8769, 0x9003, 0x0132
"""Tags of EXIF: orientation, the block of the camera, the time of the photo, and the time of the file."""


def plan_table(places: Sequence[Place], into: Path) -> Table:
    """Return the number of images per class, then something else, unsure and unreadable ones."""
    last = ("", SOMETHING_ELSE, UNSURE)
    counts = Counter(
        (
            place.target is None,
            last.index(place.folder) if place.folder in last else 0,
            place.folder,
            UNSURE if place.folder == UNSURE else place.class_name,
        )
        for place in places
    )
    table = table_of("class", "images", "folder")
    for (unreadable, _, folder, name), number in sorted(counts.items()):
        shown = ("unreadable", "stays") if unreadable else (printable(name), printable(str(into / folder)))
        table.add_row(Text(shown[0]), f"{number:,}", Text(shown[1]))
    return table


def plan_csv(places: Sequence[Place], root: Path) -> Iterator[Sequence[object]]:
    """Yield a header, then a row per image, with the time, width and height of the photo."""
    yield (
        "file",
        "folder",
        "time",
        "width",
        "height",
        "class",
        "probability",
        "unsure",
        "target",
        "error",
    )
    for place in places:
        row = place_of(place)
        probability = "" if row["probability"] is None else f"{row['probability']:.4f}"
        folder = place.image.path.parent.relative_to(root).as_posix()
        yield (
            place.image.path,
            "" if folder == "." else folder,
            *photo_of(place.image.path),
            row["class"] or "",
            probability,
            "yes" if row["unsure"] else "",
            place.target or "",
            row["error"] or "",
        )


def place_of(place: Place) -> dict[str, Any]:
    """Return the place of an image as JSON. Something else, and what a person said, has no probability."""
    return {
        "file": str(place.image.path),
        "class": place.class_name or None,
        "probability": place.answer.probability,
        "unsure": place.folder == UNSURE,
        "something_else": place.folder == SOMETHING_ELSE,
        "target": None if place.target is None else str(place.target),
        "error": place.answer.error,
    }


@cache
def _read_heic() -> None:
    """Let Pillow read HEIC files, if pillow-heif is installed."""
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()


def photo_of(path: Path) -> tuple[str, object, object]:
    """Return the time of a photo (ISO 8601, as the camera's clock had it), its width and its height.

    They are empty if Pillow is not installed, or can't read the file.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError:
        return "", "", ""
    _read_heic()
    try:
        with Image.open(path) as image:
            exif = image.getexif()
            width, height = image.size
            taken = str(exif.get_ifd(EXIF).get(TAKEN) or exif.get(CHANGED) or "").strip("\0 ")
            turned = exif.get(ORIENTATION, 1) in (5, 6, 7, 8)
    except Exception:  # Pillow raises what its readers meet in a damaged file
        return "", "", ""
    date, _, time = taken.partition(" ")
    size = (height, width) if turned else (width, height)
    return f"{date.replace(':', '-')}T{time}" if time else "", *size
