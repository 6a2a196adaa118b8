"""Training jobs: state, progress, events and images."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from clipcite.types.base import Open, Resource, ResponseModel
from clipcite.types.problems import Notice
from clipcite.types.report import NOT_PROMOTED, PROMOTED, Metrics

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Stage = Literal["preparing", "training", "publishing", "evaluating"]
Phase = Literal["starting", "reading", "features", "steps", "support", "storing", "folds", "tests", "report"]
DOING: Mapping[Phase, str] = {
    "starting": "Starting",
    "reading": "Reading the images",
    "features": "Encoding the images",
    "steps": "Training",
    "support": "Encoding with the new model",
    "storing": "Storing the model",
    "folds": "Measuring the accuracy",
    "tests": "Measuring on test images",
    "report": "Writing the report",
}
"""All phases of a job in their order, in words."""
STAGE_OF: Mapping[Phase, Stage] = {
    "starting": "preparing",
    **dict.fromkeys(("reading", "features", "steps", "support"), "training"),
    "storing": "publishing",
    **dict.fromkeys(("folds", "tests", "report"), "evaluating"),
}
Until = Literal["model", "end"]
FINAL = ("succeeded", "failed", "cancelled")


class ClassCounts(ResponseModel):
    """Numbers of images of a class."""

    name: str
    images: int = Field(description="Number of training images.")
    test_images: int = Field(description="Number of test images.")


class Progress(ResponseModel):
    """Progress of a job. Epochs, steps and losses describe the training, not the evaluation."""

    stage: Open[Stage] = Field(
        description="`preparing`, `training`, `publishing`, then `evaluating`, when the job has a `model_id`."
    )
    phase: Open[Phase] = Field(
        "starting",
        description="Part of the stage: `starting`; `reading`, `features`, `steps` and `support`; `storing`; "
        "`folds` or `tests`, then `report`.",
    )
    doing: str = Field("", description="The phase in words.")
    epoch: int
    epochs: int | None = None
    step: int
    steps: int | None = None
    fraction: float = Field(
        description="Finished fraction of the work, including the evaluation, from 0 to 1. It never falls "
        "within an attempt."
    )
    eta_seconds: float | None = Field(
        None,
        description="Estimated seconds until the job ends; null if unknown. It rises only if the job "
        "takes much longer than stated before.",
    )
    model_eta_seconds: float | None = Field(
        None,
        description="Estimated seconds until the model can be used; null if unknown, or once there is a "
        "`model_id`.",
    )
    images_per_second: float | None = None
    loss: dict[str, float] | None = Field(
        None,
        description="Losses by name (paper, eq. 2 to 5), and their weighted sum `total` (eq. 6).",
    )


JOB_EXAMPLE: JsonDict = {
    "id": "job_01m8879efspbrp0fvcbr51d4g1",
    "object": "job",
    "name": "animals",
    "status": "running",
    "cancel_requested": False,
    "created_at": "2026-11-25T02:05:12.551770Z",
    "started_at": "2026-11-25T02:05:12.789436Z",
    "finished_at": None,
    "config": {"backbone": "starter", "epochs": 10, "alpha": 0.5},
    "classes": [
        {"name": "red fox", "images": 8, "test_images": 2},
        {"name": "badger", "images": 8, "test_images": 2},
    ],
    "queue_position": None,
    "attempts": 1,
    "progress": {
        "stage": "training",
        "phase": "steps",
        "doing": "Training",
        "epoch": 3,
        "epochs": 10,
        "step": 3,
        "steps": 10,
        "fraction": 0.3,
        "eta_seconds": 12.5,
        "model_eta_seconds": 6.5,
        "images_per_second": 18.0,
        "loss": {"total": 1.2, "dva": 0.6, "scl": 0.8, "vld": 0.4},
    },
    "model_id": None,
    "metrics": None,
    "promoted": None,
    "not_promoted": None,
    "warnings": [],
    "error": None,
    "request_id": "req_b92e80280a52fa3ffd6216db",
}


class Job(Resource):
    """Training job."""

    model_config = ConfigDict(json_schema_extra={"examples": [JOB_EXAMPLE]})

    id: str
    object: Literal["job"] = "job"
    name: str | None = Field(None, description="Name of the job and of its model.")
    status: Open[Status]
    cancel_requested: bool = Field(description="True while a running job is being cancelled.")
    created_at: datetime
    started_at: datetime | None = Field(None, description="Start of the first attempt.")
    finished_at: datetime | None = None
    config: dict[str, Any] = Field(description="Resolved training settings.")
    classes: list[ClassCounts]
    queue_position: int | None = Field(
        None, description="Position in the queue, capped at 1000; 1 is next. Null if not queued."
    )
    attempts: int = Field(description="Number of times that a worker started the job.")
    progress: Progress | None = Field(None, description="Progress while the job runs.")
    model_id: str | None = Field(
        None, description="Id of the model, once it can be used. Its evaluation follows."
    )
    metrics: Metrics | None = Field(
        None,
        description="Summary of the evaluation, or of a later one, as in its model. The report has more. "
        "Until then, `verdict` is `evaluating`.",
    )
    promoted: bool | None = Field(None, description=PROMOTED)
    not_promoted: Notice | None = Field(None, description=NOT_PROMOTED)
    warnings: list[Notice]
    error: Notice | None = Field(None, description="Reason of the failure.")
    request_id: str | None = Field(None, description="Id of the request that created the job.")

    @property
    def finished(self) -> bool:
        """True if the job has succeeded, failed or been cancelled."""
        return self.status in FINAL

    def reached(self, until: Until) -> bool:
        """Return whether the job has ended or, if `until` is "model", has a model."""
        return self.finished or (until == "model" and self.model_id is not None)


class JobPage(ResponseModel):
    data: list[Job]
    has_more: bool
    next_cursor: str | None = None


class Event(ResponseModel):
    """Event of a job."""

    seq: int = Field(description="Position in the job's history, strictly increasing.")
    at: datetime
    type: str = Field(
        description="Kind of event, for example `started`, `progress`, `warning` or `succeeded`."
    )
    data: dict[str, Any] = Field(description="Details, depending on `type`.")

    @property
    def ends_job(self) -> bool:
        return self.type in FINAL


class EventList(ResponseModel):
    data: list[Event]


class JobImage(ResponseModel):
    """Uploaded image."""

    position: int = Field(
        description="Position in the upload, training images first. The report uses it too."
    )
    split: Open[Literal["train", "test"]]
    class_name: str = Field(description="Label of the image.")
    file_name: str
    sha256: str = Field(description="SHA-256 of the file.")
    bytes: int


class JobImageList(ResponseModel):
    data: list[JobImage]
