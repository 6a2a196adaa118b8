"""The figures of the README, of the comparison and of the benchmarks against the stored results."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = {
    "before": "stock",
    "instant preview": "Preview",
    "CLIP-CITE with the paper's scores": "CLIP-CITE",
    "before training": "stock",
    "default (α = 0.5)": "CLIP-CITE, served",
    "clipcite (CLIP-CITE, served)": "CLIP-CITE, served",
    "fully fine-tuned (α = 1)": "CLIP-CITE, α = 1",
    "FT-Probe": "FT-Probe",
    "CLIP-LoRA": "CLIP-LoRA",
    "linear probe": "Linear probe",
}
"""Rows of the pages, with their names in the results."""


@pytest.fixture(scope="module")
def stored() -> dict[str, dict[str, str]]:
    """Return the published means per method and measure."""
    tables = json.loads((ROOT / "benchmarks" / "results" / "bng-starter.json").read_text(encoding="utf-8"))
    table = next(t for t in tables if t["title"].startswith("Mean of 3"))
    return {
        row[0]: dict(zip(table["columns"], (cell.split("<br>")[0] for cell in row), strict=True))
        for row in table["rows"]
    }


@pytest.mark.parametrize(
    ("page", "count", "columns"),
    [
        ("README.md", 3, ("B", "N", "all")),
        ("docs/explanation/comparison.md", 5, ("B", "N", "mixed HM")),
        ("benchmarks/README.md", 7, ("B", "N", "mixed HM", "all")),
    ],
)
def test_the_figures_are_those_of_the_stored_results(
    stored: dict[str, dict[str, str]], page: str, count: int, columns: tuple[str, ...]
) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = (line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|"))
    rows = {name: rest for first, *rest in lines if (name := first.strip("*")) in ROWS}
    assert len(rows) == count
    assert rows == {name: [stored[ROWS[name]][column] for column in columns] for name in rows}


def test_the_first_screen_has_the_stored_gain(stored: dict[str, dict[str, str]]) -> None:
    [gain] = re.findall(r"rises from (\d+%) to (\d+%)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert list(gain) == [f"{float(stored[name]['B']):.0%}" for name in ("stock", "CLIP-CITE, served")]


@pytest.mark.parametrize("page", sorted((ROOT / "benchmarks" / "pages").glob("*.md")), ids=lambda p: p.name)
def test_every_table_of_the_benchmarks_has_its_command(page: Path) -> None:
    """Each section with figures names the command that prints them. Choices are no figures."""
    for section in re.split(r"^(?=##+ )", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
        tables = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
        if any(re.search(r"\d\.\d", table) for table in tables) and not section.startswith("## The data"):
            assert "    python -m benchmarks." in section, section.partition("\n")[0]
