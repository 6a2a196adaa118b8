"""The published tables, recomputed from the stored runs without data, model or training."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.accuracy import frozen, report
from benchmarks.accuracy.harness import Trial
from benchmarks.accuracy.measures import MEASURES
from benchmarks.accuracy.tables import Runs, collect, figure
from benchmarks.accuracy.tuning import score, table_of
from benchmarks.data.dataset import DataSet
from benchmarks.data.few_shot import base_classes
from benchmarks.methods.common.registry import METHODS
from benchmarks.methods.tuned import GRIDS, LOG, TRIALS
from benchmarks.run_store import RunStore
from benchmarks.trust import folds
from benchmarks.trust.judging import judged
from benchmarks.trust.runs import Record
from benchmarks.trust.tables import tables

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RESULTS = BENCHMARKS / "results"
CLASSES = {"clothing": 10, "cifar10": 10, "stamps": 12}


def test_a_table_is_two_files_of_runs() -> None:
    folders = sorted(path.name for path in RESULTS.iterdir() if path.is_dir())
    assert folders == ["folds", "frozen"]
    for folder in (RESULTS, *(RESULTS / name for name in folders)):
        files = [path.name for path in folder.iterdir() if path.is_file()]
        assert len(files) <= 20
        runs = {name for name in files if name.startswith("runs-")}
        assert {Path(name).stem for name in runs if name.endswith(".npz")} == {
            Path(name).stem for name in runs
        }


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


@pytest.mark.slow
def test_the_frozen_run() -> None:
    """The predictions of the frozen run, from its stored runs and without images."""
    page = (BENCHMARKS / "pages" / "accuracy.md").read_text(encoding="utf-8")
    block = page.split("<!-- frozen -->")[1].split("<!-- /frozen -->")[0]
    published = [line.strip("| ").split(" | ") for line in block.splitlines() if line.startswith("| ")][1:]
    backbone: Any = SimpleNamespace(name="starter")
    sizes = {"clothing": 10, "cifar10": 10, "clipart": 12}
    sets = [DataSet(name, tuple(map(str, range(n))), (), (), ()) for name, n in sizes.items()]
    half, by_shots = frozen.trials_of(sets)

    def stored(methods: Sequence[str], trials: Sequence[Trial], number: int) -> dict[str, Runs]:
        runs = collect(methods, trials, backbone, RESULTS / "frozen")
        assert {len(answers) for one in runs for answers in one.answers.values()} == {number}
        return {one.label: one for one in runs}

    with_all = {shots: stored(frozen.ALL, trials, 2) for shots, trials in by_shots.items()}
    assert list(frozen.outcomes(stored(frozen.HALF, half, 5), with_all)) == published


def test_the_trial_of_four_fold_models() -> None:
    """The table on the page is that of the stored runs."""
    runs = RunStore(RESULTS / "folds", "folds-starter-128px")
    rows = [
        {**found.record, "labels": key.rpartition("/")[2], "data": key.partition("/")[0]}
        for key in runs.names()
        if (found := runs.get(key)) is not None
    ]
    text = "\n".join(table.markdown() for table in folds.tables(rows))
    assert text + "\n" == (RESULTS / "folds" / "folds-starter-128px.md").read_text(encoding="utf-8")
    assert text in (BENCHMARKS / "pages" / "trust.md").read_text(encoding="utf-8")


def test_the_grid_of_settings() -> None:
    """Each method has as many trials, its best one is chosen, and the page has their table."""
    log = json.loads(LOG.read_text(encoding="utf-8"))
    assert {trial["method"] for trial in log} == set(GRIDS)
    for method in GRIDS:
        trials = [trial for trial in log if trial["method"] == method]
        assert len({(trial["training"], trial["setting"]) for trial in trials}) == len(trials) == TRIALS
        scores = [score(trial["values"].values()) for trial in trials]
        assert [trial["score"] for trial in trials] == scores
        assert [trial["chosen"] for trial in trials] == [i == np.argmax(scores) for i in range(TRIALS)]
    assert table_of(log).markdown() in (BENCHMARKS / "pages" / "accuracy.md").read_text(encoding="utf-8")


def test_trust() -> None:
    store = RunStore(RESULTS, "trust-starter-160px")
    records = [record for key in store.names() if (record := Record.load(store, key)) is not None]
    order = list(CLASSES)
    records.sort(key=lambda r: (r.plain["split"], order.index(r.plain["data"])))
    text = "\n\n".join(table.markdown() for table in tables([judged(record) for record in records]))
    assert text + "\n" == (RESULTS / "trust-starter-160px.md").read_text(encoding="utf-8")
