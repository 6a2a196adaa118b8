"""Waiting for a job: the model is announced before its evaluation ends, then comes the verdict."""

from types import SimpleNamespace
from typing import Any

import pytest
import typer

from clipcite.cli.render.progress import wait_for
from clipcite.wire.jobs import JOB_EXAMPLE, Job, Progress
from clipcite.wire.report import ComparedAccuracies, MeasuredOn, Metrics

COUNTS = {"red fox": (4, 2), "badger": (4, 0), "oak": (0, 2)}
QUEUED = Job.model_validate(
    {
        **JOB_EXAMPLE,
        "id": "job_1",
        "status": "queued",
        "name": "my foxes",
        "classes": [
            {"name": name, "images": images, "test_images": test_images}
            for name, (images, test_images) in COUNTS.items()
        ],
        "progress": None,
    }
)
BEGIN = Progress(stage="training", epoch=0, step=0, fraction=0)
NOT_YET = Metrics(measured_on=MeasuredOn(source="none", images=0, trained_images=8), verdict="evaluating")
MEASURED = Metrics(
    measured_on=MeasuredOn(source="test", images=4, trained_images=8),
    verdict="better",
    trained_classes=ComparedAccuracies(stock=0.5, adapted=1.0, interval=(0.7, 1.0)),
)
TRAINING = QUEUED.model_copy(update={"status": "running", "progress": BEGIN})
EVALUATING = TRAINING.model_copy(
    update={
        "model_id": "mdl_1",
        "progress": BEGIN.model_copy(update={"stage": "evaluating"}),
        "metrics": NOT_YET,
    }
)
DONE = EVALUATING.model_copy(update={"status": "succeeded", "metrics": MEASURED})
TRY = "clipcite classify IMAGE --model 'my foxes' --classes 'red fox,badger'"


def client(*states: Job) -> Any:
    """Return a client whose job goes through these states."""

    def wait(job_id: str, *, on_change: Any, timeout: float | None) -> Job:
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
    assert (
        "verdict  Better. 100% correct (likely 70 to 100) on your 4 test images, up from 50%" in captured.out
    )
    assert TRY in captured.out
    assert "evaluation follows" not in captured.out
