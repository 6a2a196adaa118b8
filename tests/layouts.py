"""Folder layouts with the split and class of each file, for the API, the SDK and the page.

The API and the SDK share their rules. Layouts that the page places differently have separate expectations
(`page`). `refused` names the readers that refuse a layout, so that no label is guessed.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Reader = Literal["api", "sdk", "page"]


@dataclass(frozen=True)
class Layout:
    name: str
    files: list[str]
    expected: dict[str, str] | None
    """`split:class` of each file that counts; None if the layout is refused."""

    def __str__(self) -> str:
        return self.name


def layouts(reader: Reader) -> list[Layout]:
    """Return the layouts of the table with this reader's expected result."""
    found = []
    for row in json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8")):
        expected = row["page"] if reader == "page" and "page" in row else row["files"]
        placed = {file: place for file, place in expected.items() if place is not None}
        refused = reader in row.get("refused", ())
        found.append(Layout(row["name"], list(row["files"]), None if refused else placed))
    return found
