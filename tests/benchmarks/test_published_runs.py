"""The published tables, recomputed from the stored runs without data, model or training."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.accuracy import report
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


@pytest.mark.slow
def test_the_pages_have_the_tables_of_the_stored_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every figure and interval of base-to-new, as `--check` compares them. A changed figure is found."""
    backbone: Any = SimpleNamespace(name="starter")
    tables = report.base_to_new_page(report.stored_trials(backbone, RESULTS), backbone, RESULTS)
    monkeypatch.setattr(report, "base_to_new_page", lambda *_: tables)  # computed once
    report.main(["--check"])
    pages = [Path(shutil.copy(page, tmp_path)) for page in report.PAGES.glob("*.md")]
    page = report.page_of("bng", pages)
    text = page.read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("| stock |"))
    page.write_text(text.replace(line, line.replace("0.", "1.", 1)), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"differ from the stored runs in: bng\."):
        report.main(["--check", "--page", *map(str, pages)])


def test_trust() -> None:
    store = RunStore(RESULTS, "trust-starter-160px")
    records = [record for key in store.names() if (record := Record.load(store, key)) is not None]
    order = list(CLASSES)
    records.sort(key=lambda r: (r.plain["split"], order.index(r.plain["data"])))
    stored = json.loads((RESULTS / "trust-starter-160px.json").read_text(encoding="utf-8"))
    assert [vars(table) for table in tables([judged(record) for record in records])] == stored
