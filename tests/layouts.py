"""Layouts of folders and the split and class of each file, for the API, the SDK and the page.

All follow the API's rules. Where the SDK knows more, a layout has expectations of its own for it (`sdk`);
`refused` names those that refuse the layout, so that no label is guessed.
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
    """`split:class` of each file that counts; None: the layout is refused."""

    def __str__(self) -> str:
        return self.name


def layouts(reader: Reader) -> list[Layout]:
    """The layouts of the table with what this reader makes of them."""
    found = []
    for row in json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8")):
        expected = row["sdk"] if reader == "sdk" and "sdk" in row else row["files"]
        placed = {file: place for file, place in expected.items() if place is not None}
        refused = reader in row.get("refused", ())
        found.append(Layout(row["name"], list(row["files"]), None if refused else placed))
    return found
