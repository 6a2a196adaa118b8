"""The tables of the results page from three tiny stored runs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.accuracy import report
from benchmarks.accuracy.harness import store_of
from benchmarks.accuracy.measures import means
from benchmarks.accuracy.scores import BestScores

IMAGES, CLASSES = 24, 4
BACKBONE: Any = SimpleNamespace(name="starter")
LABELS = {
    "stock": ["stock"],
    "clip_cite": ["CLIP-CITE, served", "CLIP-CITE", "CLIP-CITE, α = 1"],
}
TRIALS = [("beads", 0, [0, 1]), ("beads", 1, [2, 3]), ("coins", 0, [0, 1])]
Runs = dict[str, list[tuple[str, dict[str, float]]]]


@pytest.fixture
def stored(tmp_path: Path) -> Runs:
    """Store the runs, and return data set and measures of each run by label."""
    generator = np.random.default_rng(7)
    kept: Runs = {}
    for method, labels in LABELS.items():
        for data, split, trained in TRIALS:
            truth = np.arange(IMAGES) % CLASSES
            arrays: dict[str, np.ndarray] = {}
            for place, label in enumerate(labels):
                scores = generator.normal(0, 0.1, (IMAGES, CLASSES)).astype(np.float32)
                scores[np.arange(IMAGES), truth] += 0.05 * (place + 1)
                best = BestScores.from_scores(scores, truth, trained)
                kept.setdefault(label, []).append((data, means([best])))
                arrays |= {f"{label}@{data}/{name}": array for name, array in vars(best).items()}
            record = {"labels": labels, "tests": [data], "seconds": 1.0}
            key = f"{data}/split{split}-seed0-16shots-2classes/{method}"
            store_of(method, BACKBONE, tmp_path).add(key, record, arrays)
    return kept


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    names = ("bng", "rivals", "published")
    path.write_text("# Page\n\n" + "\n".join(f"<!-- {name} -->\n<!-- /{name} -->" for name in names))
    return path


def run(page: Path, *options: str) -> None:
    report.main(["--out", str(page.parent), "--page", str(page), *options])


def rows(page: Path, name: str) -> dict[str, list[str]]:
    block = page.read_text(encoding="utf-8").split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0]
    lines = [line.strip("| ").split(" | ") for line in block.splitlines() if line.startswith("| ")]
    return {first: [cell.split("<br>")[0] for cell in rest] for first, *rest in lines[1:]}


def mean(runs: list[tuple[str, dict[str, float]]], measure: str) -> list[float]:
    """Return the mean over the runs of each data set."""
    return [np.mean([of[measure] for data, of in runs if data == name]).item() for name in ("beads", "coins")]


def test_every_cell_is_a_mean_over_the_data_sets(stored: Runs, page: Path) -> None:
    run(page)
    base_to_new = rows(page, "bng")
    shown = ("B", "N", "HM", "mixed B", "mixed N", "mixed HM", "all", "OwAUC")
    assert list(base_to_new) == [label for of in LABELS.values() for label in of]
    for label, runs in stored.items():
        cells = base_to_new[label]
        assert cells[0] == "3"
        assert cells[1:9] == [f"{np.mean(mean(runs, m)):.3f}" for m in shown]
        for cell, m in zip(cells[9:], ("HM", "mixed HM"), strict=True):
            assert cell == " / ".join(f"{value:.3f}" for value in mean(runs, m))


@pytest.mark.usefixtures("stored")
def test_a_changed_figure_is_found(page: Path) -> None:
    run(page)
    run(page, "--check")
    text = page.read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("| stock |"))
    page.write_text(text.replace(line, line.replace("| 3 |", "| 4 |")), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"differ from the stored runs in: bng\."):
        run(page, "--check")
