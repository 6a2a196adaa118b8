"""The published tables, recomputed from the stored runs without data, model or training."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.accuracy import report
from benchmarks.accuracy.harness import Trial
from benchmarks.accuracy.measures import MEASURES
from benchmarks.accuracy.tables import collect, figure
from benchmarks.data.dataset import DataSet
from benchmarks.data.few_shot import base_classes
from benchmarks.methods.common.registry import METHODS
from benchmarks.run_store import RunStore
from benchmarks.trust.judging import judged
from benchmarks.trust.runs import Record
from benchmarks.trust.tables import tables

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RESULTS = BENCHMARKS / "results"
CLASSES = {"clothing": 10, "cifar10": 10, "stamps": 12}


def test_runs_are_two_files() -> None:
    runs = {path.name for path in RESULTS.glob("runs-*")}
    assert runs == {f"{Path(name).stem}{ending}" for name in runs for ending in (".json", ".npz")}


def test_accuracy() -> None:
    """Every mean of the results page; the intervals take minutes."""
    page = (BENCHMARKS / "pages" / "accuracy.md").read_text(encoding="utf-8")
    block = page.split("<!-- bng -->")[1].split("<!-- /bng -->")[0]
    rows = [line.strip("| ").split(" | ") for line in block.splitlines() if line.startswith("| ")][1:]
    published = {row[0]: [cell.split("<br>")[0] for cell in row[1 : 2 + len(MEASURES)]] for row in rows}
    backbone: Any = SimpleNamespace(name="starter")
    trials = [
        Trial(data, tuple(base_classes(split, count)), 16, split, seed, (data,))
        for name, count in CLASSES.items()
        for data in [DataSet(name, tuple(map(str, range(count))), (), (), ())]
        for split in range(5)
        for seed in range(3)
    ]
    runs = collect(METHODS, trials, backbone, RESULTS)
    found = {}
    for one in runs:
        mean, count = one.means()["mean"], sum(map(len, one.answers.values()))
        found[one.label] = [str(count), *(figure(mean[m]) for m in MEASURES)]
    assert found == published


@pytest.mark.slow
def test_the_pages_have_the_tables_of_the_stored_runs() -> None:
    """Every figure and interval of base-to-new, as `python -m benchmarks.accuracy.report --check`."""
    report.main(["--check"])


def test_trust() -> None:
    store = RunStore(RESULTS, "trust-starter-160px")
    records = [record for key in store.names() if (record := Record.load(store, key)) is not None]
    order = list(CLASSES)
    records.sort(key=lambda r: (r.plain["split"], order.index(r.plain["data"])))
    text = "\n\n".join(table.markdown() for table in tables([judged(record) for record in records]))
    assert text + "\n" == (RESULTS / "trust-starter-160px.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "page"), [("frozen-starter", "accuracy"), ("kinds-starter", "requests")])
def test_the_pages_have_the_tables_that_are_stored_without_their_runs(name: str, page: str) -> None:
    """Compare the rows, because the page may shorten a note."""
    tables = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    text = (BENCHMARKS / "pages" / f"{page}.md").read_text(encoding="utf-8")
    means = [table for table in tables if (name, table["title"]) != ("kinds-starter", "By set")]
    rows = [f"| {' | '.join(row)} |" for table in means for row in table["rows"]]
    missing = [row for row in rows if row not in text]
    assert missing == []
