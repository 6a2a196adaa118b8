"""Predictions as a table, as CSV and as numbers per class."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from clipcite.cli.render.tables import as_csv, table_of
from clipcite.datasets.image import printable

if TYPE_CHECKING:
    from clipcite.wire.predictions import Classification, ImageResult

REJECTED, UNREADABLE = "none of these", "unreadable"


def predictions_table(response: Classification) -> Table:
    """Return a table with a line per image and prediction."""
    new = {each.name for each in response.class_names if each.kind == "new"}
    if len(new) == len(response.class_names):
        new = set()  # the usual case for the stock model, whose classes are all new
    table = table_of("image", "class", "probability")
    for result in response:
        for place, (name, probability) in enumerate(_rows(result)):
            shown = Text(name, style="" if place else "bold").append(" (new)" if name in new else "", "dim")
            percent = f"{100 * float(probability):.1f}%" if probability else ""
            table.add_row(Text("" if place else printable(result.file or "")), shown, percent)
    return table


def predictions_csv(response: Classification) -> str:
    """Return the same lines as CSV, with probabilities from 0 to 1."""
    rows = ([result.file or "", *row] for result in response for row in _rows(result))
    return as_csv([["image", "class", "probability"], *rows])


def tally(response: Classification) -> str:
    """Return the number of images per class, such as `28 images: skirt 20, dress 7, unreadable 1`."""
    counts = Counter(_first(result) for result in response)
    classes = (f"{name} {count:,}" for name, count in counts.most_common())
    return f"{len(response):,} images: {', '.join(classes)}"


def _rows(result: ImageResult) -> list[tuple[str, str]]:
    """Return class and probability of each prediction for an image."""
    if result.error is not None:
        return [(f"{UNREADABLE}: {result.error.detail}", "")]
    if result.rejected:
        return [(REJECTED, "")]
    return [(each.class_name, f"{each.probability:.4f}") for each in result.predictions]


def _first(result: ImageResult) -> str:
    return UNREADABLE if result.error else REJECTED if result.rejected else result.class_name
