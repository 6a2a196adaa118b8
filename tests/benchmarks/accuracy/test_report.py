"""The tables of the results page from three tiny stored runs, with every cell computed by plain loops."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.accuracy import report
from benchmarks.accuracy.harness import store_of
from benchmarks.accuracy.scores import BestScores
from tests.benchmarks.accuracy.test_scores import open_world

IMAGES, CLASSES = 24, 4
BACKBONE: Any = SimpleNamespace(name="starter")
LABELS = {
    "stock": ["stock"],
    "clip_cite": ["CLIP-CITE, served", "CLIP-CITE", "CLIP-CITE, α = 1"],
}
TRIALS = [("beads", 0, [0, 1]), ("beads", 1, [2, 3]), ("coins", 0, [0, 1])]
Matrices = dict[str, list[tuple[str, np.ndarray, np.ndarray, list[int]]]]


@pytest.fixture
def matrices(tmp_path: Path) -> Matrices:
    """Store the runs, and return data set, scores, labels and trained classes of each run by label."""
    generator = np.random.default_rng(7)
    kept: Matrices = {}
    for method, labels in LABELS.items():
        for data, split, trained in TRIALS:
            truth = np.arange(IMAGES) % CLASSES
            arrays: dict[str, np.ndarray] = {}
            for place, label in enumerate(labels):
                scores = generator.normal(0, 0.1, (IMAGES, CLASSES)).astype(np.float32)
                scores[np.arange(IMAGES), truth] += 0.05 * (place + 1)
                kept.setdefault(label, []).append((data, scores, truth, trained))
                best = BestScores.from_scores(scores, truth, trained)
                arrays |= {f"{label}@{data}/{name}": array for name, array in vars(best).items()}
            record = {"labels": labels, "tests": [data], "seconds": 1.0}
            key = f"{data}/split{split}-seed0-16shots-2classes/{method}"
            store_of(method, BACKBONE, tmp_path).add(key, record, arrays)
    return kept


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    names = ("bng", "rivals", "rivals-paper", "open-world", "published")
    path.write_text("# Page\n\n" + "\n".join(f"<!-- {name} -->\n<!-- /{name} -->" for name in names))
    return path


def run(page: Path, *options: str) -> None:
    report.main(["--out", str(page.parent), "--page", str(page), *options])


def rows(page: Path, name: str) -> dict[str, list[str]]:
    block = page.read_text(encoding="utf-8").split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0]
    lines = [line.strip("| ").split(" | ") for line in block.splitlines() if line.startswith("| ")]
    return {first: [cell.split("<br>")[0] for cell in rest] for first, *rest in lines[1:]}


def accuracy(scores: np.ndarray, truth: np.ndarray, images: list[int], candidates: list[int]) -> float:
    correct = [max(candidates, key=lambda c: scores[i][c]) == truth[i] for i in images]
    return sum(correct) / len(correct)


def slow(scores: np.ndarray, truth: np.ndarray, trained: list[int]) -> dict[str, float]:
    """Compute the measures image by image and pair by pair."""
    new = [c for c in range(CLASSES) if c not in trained]
    of_trained = [i for i in range(IMAGES) if truth[i] in trained]
    of_new = [i for i in range(IMAGES) if truth[i] in new]
    every = list(range(CLASSES))
    values = {
        "B": accuracy(scores, truth, of_trained, trained),
        "N": accuracy(scores, truth, of_new, new),
        "mixed B": accuracy(scores, truth, of_trained, every),
        "mixed N": accuracy(scores, truth, of_new, every),
        "all": accuracy(scores, truth, list(range(IMAGES)), every),
    }
    for kind in ("", "mixed "):
        b, n = values[f"{kind}B"], values[f"{kind}N"]
        values[f"{kind}HM"] = 2 * b * n / (b + n) if b + n else 0.0

    values |= open_world(scores, truth, trained, new)
    return values


def mean(runs: list[tuple[str, np.ndarray, np.ndarray, list[int]]], measure: str) -> float:
    """Return the mean over the data sets of the means over their runs."""
    of_data = {
        name: [slow(scores, truth, trained)[measure] for data, scores, truth, trained in runs if data == name]
        for name in ("beads", "coins")
    }
    return float(np.mean([np.mean(values) for values in of_data.values()]))


def test_every_cell_is_the_plain_computation(matrices: Matrices, page: Path) -> None:
    run(page)
    base_to_new, open_world = rows(page, "bng"), rows(page, "open-world")
    shown = ("B", "N", "HM", "mixed B", "mixed N", "mixed HM", "all", "OwAUC")
    assert list(base_to_new) == list(open_world) == [label for of in LABELS.values() for label in of]
    for label, runs in matrices.items():
        cells = base_to_new[label]
        assert cells[0] == "3"
        assert cells[1:9] == [f"{mean(runs, m):.3f}" for m in shown]
        by_data = [[r for r in runs if r[0] == name] for name in ("beads", "coins")]
        for cell, m in zip(cells[9:], ("HM", "mixed HM"), strict=True):
            of_data = [np.mean([slow(*r[1:])[m] for r in of]) for of in by_data]
            assert cell == " / ".join(f"{value:.3f}" for value in of_data)
        assert open_world[label] == [f"{mean(runs, m):.3f}" for m in ("AUROC", "Opt-a", "Opt-g", "OwAUC")]


@pytest.mark.usefixtures("matrices")
def test_a_changed_figure_is_found(page: Path) -> None:
    run(page)
    run(page, "--check")
    text = page.read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("| stock |"))
    page.write_text(text.replace(line, line.replace("| 3 |", "| 4 |")), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"differ from the stored runs in: bng\."):
        run(page, "--check")
