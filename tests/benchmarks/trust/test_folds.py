"""Reports of small jobs with two and with four fold models: the jobs of the plan, a run, and the table."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.trust import folds
from core.clip.config import resolve_config
from core.clip.models.backbone import Backbone
from tests.benchmarks.accuracy.test_paper import COLOURS, folder_of


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("data") / "colours", list(COLOURS), train=6)


def test_the_jobs_are_those_of_the_plan(colours: Path) -> None:
    jobs = folds.jobs([colours], [colours])
    stamps = [(labels, trial.split) for labels, trial in jobs if trial.shots == 16]
    photos = [(labels, trial.split) for labels, trial in jobs if trial.shots == 8]
    assert stamps == [("real", s) for s in range(40, 55)] + [("shuffled", s) for s in range(40, 60)]
    assert photos == [("real", s) for s in range(40, 50)]
    assert all(trial.seed == trial.split for _, trial in jobs)


def test_a_job_trains_once_and_is_evaluated_three_times(
    backbone: Backbone, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (_, trial) = folds.jobs([colours], [])[0]
    quickly = partial(resolve_config, epochs=1, batch_size=4)
    monkeypatch.setattr("benchmarks.trust.runs.resolve_config", quickly)
    record = folds.run("real", trial, backbone)
    assert record["images"] == 12
    assert record["two"]["cpu_seconds"] > 0
    assert record["four"] != record["two"]
    assert set(record["truth"]) == {"verdict", "accuracy", "gain"}
    assert json.dumps(record)


def row(labels: str, reported: float, verdict: str) -> dict[str, Any]:
    def figures(gain: float) -> dict[str, Any]:
        return {
            "verdict": verdict,
            "accuracy": [0.5 + gain, 0.4 + gain, 0.6 + gain],
            "gain": [gain, gain - 0.1, gain + 0.1],
            "cpu_seconds": 100 * gain,
        }

    record = {"labels": labels, "data": "stamps", "two": figures(reported / 2), "four": figures(reported)}
    return record if labels == "shuffled" else record | {"truth": figures(0.2)}


def test_the_table() -> None:
    rows = [row("real", 0.15, "better"), row("real", 0.11, "no_clear_gain"), row("shuffled", 0.0, "better")]
    (table,) = folds.tables(rows)
    of = {(cells[0], cells[1]): cells[2:] for cells in table.rows}
    assert of["stamps", "two"] == [*("2", "+0.065 / +0.200", "0 of 2", "0.565 / 0.700", "0 of 2", "1", "6")]
    assert of["all", "four"] == [*("2", "+0.130 / +0.200", "2 of 2", "0.630 / 0.700", "2 of 2", "1", "13")]
    assert of["shuffled labels", "four"][-2:] == ["1", "–"]
