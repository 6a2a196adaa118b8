"""Waiting for a job: the model is announced before its evaluation ends, then comes the verdict."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from clipcite.cli.render.progress import wait_for
from clipcite.client.types import ClassCount, Comparison, JobData, MeasuredOn, Metrics, Progress

CLASSES = [ClassCount("red fox", 4, 2), ClassCount("badger", 4), ClassCount("oak", 0, 2)]
QUEUED = JobData(id="job_1", status="queued", created_at=datetime.now(UTC), name="my foxes", classes=CLASSES)
TRAINING = replace(QUEUED, status="running", progress=Progress("training"))
EVALUATING = replace(
    TRAINING,
    model_id="mdl_1",
    progress=Progress("evaluating"),
    metrics=Metrics(MeasuredOn("none", 0, 8), "evaluating"),
)
DONE = replace(
    EVALUATING,
    status="succeeded",
    metrics=Metrics(MeasuredOn("test", 4, 8), "better", Comparison(0.5, 1.0)),
)
TRY = "clipcite classify IMAGE --model 'my foxes' --classes 'red fox,badger'"


def client(*states: JobData) -> Any:
    """Return a client whose job goes through these states."""

    def wait(job_id: str, *, on_change: Any, timeout: float | None) -> JobData:
        for state in states:
            on_change(state)
        return states[-1]

    return SimpleNamespace(jobs=SimpleNamespace(wait=wait))


def test_the_model_then_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        wait_for(client(QUEUED, TRAINING, EVALUATING, EVALUATING, DONE), "job_1", as_json=False)
    assert ended.value.exit_code == 0
    captured = capsys.readouterr()
    assert captured.err.count("The model is ready. Its evaluation follows.") == 1
    assert captured.err.index("training") < captured.err.index(TRY)
    assert "verdict  Better. 100% correct, up from 50%" in captured.out
    assert TRY in captured.out
    assert "evaluation follows" not in captured.out


def test_json_is_the_only_output(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        wait_for(client(EVALUATING, replace(DONE, raw={"id": "job_1"})), "job_1", as_json=True)
    captured = capsys.readouterr()
    assert captured.out == '{"id": "job_1"}\n'
    assert "The model is ready" not in captured.err
