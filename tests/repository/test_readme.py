"""The README: its length, its figures against the stored results, and its commands."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BENCHMARKS = sorted((ROOT / "benchmarks" / "pages").glob("*.md"))
MAX_WORDS = 700
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
"""Rows of the README and of the comparison, with their names in the results."""


def means() -> dict[str, dict[str, str]]:
    """Return the published means per method and measure."""
    tables = json.loads((ROOT / "benchmarks" / "results" / "bng-starter.json").read_text(encoding="utf-8"))
    table = next(t for t in tables if t["title"].startswith("Mean of 3"))
    return {
        row[0]: dict(zip(table["columns"], (cell.split("<br>")[0] for cell in row), strict=True))
        for row in table["rows"]
    }


def figures(page: str) -> dict[str, list[str]]:
    """Return the rows of a page's tables that `ROWS` names."""
    lines = (line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("|"))
    return {name: rest for first, *rest in lines if (name := first.strip("*")) in ROWS}


def test_it_is_short() -> None:
    assert len(README.split()) <= MAX_WORDS


def test_its_figures_are_those_of_the_stored_results() -> None:
    stored = means()
    rows = figures(README)
    assert len(rows) == 3
    for name, values in rows.items():
        assert values == [stored[ROWS[name]][column] for column in ("B", "N", "all")], name
    [before, after] = re.findall(r"rises from (\d+)% to (\d+)%", README)[0]
    assert [before, after] == [
        f"{float(stored[name]['B']):.0%}"[:-1] for name in ("stock", "CLIP-CITE, served")
    ]


def test_the_comparison_has_the_stored_results() -> None:
    stored = means()
    rows = figures((ROOT / "docs" / "explanation" / "comparison.md").read_text(encoding="utf-8"))
    assert len(rows) == 5
    for name, values in rows.items():
        expected = [stored[ROWS[name]][column] for column in ("B", "N", "mixed HM")]
        assert values == expected, name


def test_the_first_page_of_the_benchmarks_is_short_and_has_the_stored_results() -> None:
    page = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert len(page.splitlines()) <= 150
    stored = means()
    rows = figures(page)
    assert len(rows) == 7
    for name, values in rows.items():
        assert values == [stored[ROWS[name]][column] for column in ("B", "N", "mixed HM", "all")], name


def test_the_tutorial_has_the_stored_accuracy_of_the_sample() -> None:
    text = (ROOT / "docs" / "tutorials" / "terminal.md").read_text(encoding="utf-8")
    stored = json.loads((ROOT / "benchmarks" / "results" / "samples.json").read_text(encoding="utf-8"))
    runs = [run["accuracy"]["all"] for run in stored["parts"]["runs"]]
    assert len(runs) == 10
    before, after = (sum(run[model] for run in runs) / len(runs) for model in ("stock", "adapted"))
    assert f"rises from {before:.0%} to {after:.0%} (mean of ten seeds" in " ".join(text.split())


def test_every_number_has_its_command() -> None:
    assert "python -m benchmarks.accuracy.paper --data clothing cifar10 stamps --setting bng" in README
    for module in set(re.findall(r"python -m ([\w.]+\w)", README)) - {"zipfile"}:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


@pytest.mark.parametrize(
    "page", sorted((ROOT / "benchmarks" / "pages").glob("*.md")), ids=lambda page: page.name
)
def test_every_table_of_the_benchmarks_has_its_command(page: Path) -> None:
    """Each section with figures names the command that prints them. Choices are no figures."""
    for section in re.split(r"^(?=##+ )", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
        tables = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
        if any(re.search(r"\d\.\d", table) for table in tables) and not section.startswith("## The data"):
            assert "    python -m benchmarks." in section, section.partition("\n")[0]


@pytest.mark.parametrize(
    "page", ["README.md", "docs/index.md", "docs/explanation/how-it-works.md", "docs/how-to/faq.md"]
)
def test_the_claim_about_new_classes_is_the_same_everywhere(page: str) -> None:
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split()).lower()
    assert (
        "at the default strength, accuracy on untrained classes did not measurably fall, in the mean of six "
        "data sets and on 500 unrelated images"
    ) in text


def test_the_claim_about_new_classes_is_the_stored_result() -> None:
    stored = (ROOT / "benchmarks" / "results" / "kinds-starter.json").read_text(encoding="utf-8")
    served, *_ = json.loads(stored)
    rows = {row[0]: dict(zip(served["columns"], row, strict=True)) for row in served["rows"]}
    for measure in ("N", "retention"):
        before, after = (float(rows[label][measure].split("<")[0]) for label in ("stock", "**served**"))
        change, _, highest = rows["**served**"][measure].split("<br>")[1].replace("−", "-").partition(", ")
        assert float(change.split()[0]) == pytest.approx(after - before, abs=1.1e-3), measure
        assert float(highest.rstrip("]")) > 0, measure
