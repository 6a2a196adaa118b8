"""Waiting for a job: the model is announced before its evaluation ends, then comes the verdict."""

from types import SimpleNamespace
from typing import Any

import pytest
import typer

from clipcite.cli.render.progress import show_result, wait_for
from clipcite.types.jobs import JOB_EXAMPLE, Job, Progress
from clipcite.types.problems import Notice
from clipcite.types.report import MeasuredOn, Metrics

CLASSES = [{"name": name, "images": count, "test_images": 2} for name, count in (("fox", 4), ("oak", 0))]
QUEUED = Job.model_validate({**JOB_EXAMPLE, "status": "queued", "name": "my foxes", "classes": CLASSES})
PROGRESS = Progress.model_validate(JOB_EXAMPLE["progress"])
TRAINING = QUEUED.model_copy(update={"status": "running", "progress": PROGRESS})
LATER = TRAINING.model_copy(update={"progress": PROGRESS.model_copy(update={"epoch": 4})})
NONE = Metrics(measured_on=MeasuredOn(source="none", images=0, trained_images=8), verdict="evaluating")
EVALUATING = QUEUED.model_copy(
    update={
        "status": "running",
        "model_id": "mdl_1",
        "progress": Progress(stage="evaluating", epoch=0, step=0, fraction=0),
        "metrics": NONE,
    }
)
DONE = EVALUATING.model_copy(
    update={
        "status": "succeeded",
        "metrics": NONE.model_copy(update={"verdict": "not_evaluated"}),
        "promoted": True,
    }
)
WORSE = DONE.model_copy(
    update={"promoted": False, "not_promoted": Notice(code="worse", detail="It is worse than …")}
)
TRY = "clipcite classify IMAGE --model 'my foxes' --classes fox"


def test_the_model_then_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    def wait(job_id: str, *, on_change: Any, timeout: float | None) -> Job:
        for state in (QUEUED, TRAINING, TRAINING, LATER, EVALUATING, EVALUATING, DONE):
            on_change(state)
        return DONE

    client: Any = SimpleNamespace(jobs=SimpleNamespace(wait=wait))
    with pytest.raises(typer.Exit) as ended:
        wait_for(client, "job_1", as_json=False)
    assert ended.value.exit_code == 0
    captured = capsys.readouterr()
    for epoch in (3, 4):
        assert captured.err.count(f"{QUEUED.id}  Training, epoch {epoch} of 10, 12 s left") == 1
    assert captured.err.count("The model is ready. Its evaluation follows.") == 1
    assert "--model mdl_1 --classes fox" in captured.err  # the name may still refer to another version
    assert captured.out.index("verdict") < captured.out.index(TRY)
    assert "evaluation follows" not in captured.out


def test_a_model_that_is_not_in_use_is_named_by_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    show_result(WORSE)
    shown = capsys.readouterr().out
    assert "Not in use: it is worse than … Use it all the same: clipcite models use mdl_1" in shown
    assert "clipcite classify IMAGE --model mdl_1 --classes fox" in shown
    assert "--model 'my foxes'" not in shown
