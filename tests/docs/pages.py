"""The documentation's pages, with their commands and programs."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "benchmarks" / "pages").glob("*.md")),
]


@dataclass(frozen=True)
class Block:
    """Block of code: fenced with a language, or indented without one."""

    page: Path
    language: str
    text: str

    @property
    def lines(self) -> list[str]:
        """Return the commands without comments, with continuation lines joined."""
        joined = re.sub(r"\\\n\s*", "", self.text)
        return [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks in order, fenced blocks first."""
    text = page.read_text(encoding="utf-8")
    fence = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
    for indent, language, code in fence.findall(text):
        yield Block(page, language, textwrap.dedent(indent + code))
    rest = fence.sub("", text)
    for code in re.findall(r"(?:^|\n\n)((?:    [^\n]+(?:\n|$))+)", rest):
        if not re.match(r"\s*[-\d*]", code):  # An indented continuation of a list item is no code.
            yield Block(page, "", textwrap.dedent(code))


def session(page: Path) -> str:
    """Return everything that a reader pastes into one shell."""
    return "".join(block.text for block in blocks(page) if block.language == "bash")
