"""The `config` field of POST /adapt."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from api.class_names import RawName, Sentence
from api.event_hub import Event
from api.problems import Notice
from api.request_model import RequestModel
from core.clip.prompts import MAX_TEMPLATES
from core.store.db import tables

MAX_CLASSES = 10_000
Sentences = Annotated[list[Sentence], Field(fail_fast=True, min_length=1, max_length=MAX_TEMPLATES)]


def _fail_fast(value: Any) -> Any:
    """Pydantic looks at all entries before it counts them, and has an error for each that is bad."""
    if not isinstance(value, dict):
        return value
    if len(value) > MAX_CLASSES:
        raise PydanticCustomError(
            "too_long",
            "There are prompts for {count} classes; give them for at most {most}",
            {"count": len(value), "most": MAX_CLASSES},
        )
    for name, sentences in value.items():
        some = isinstance(sentences, list) and 1 <= len(sentences) <= MAX_TEMPLATES
        if not some or not all(isinstance(sentence, str) for sentence in sentences):
            return {name: sentences}
    return value


Prompts = Annotated[dict[RawName, Sentences], Field(max_length=MAX_CLASSES), BeforeValidator(_fail_fast)]
"""Own sentences of classes."""


class JobConfig(RequestModel):
    """Every field may be left out: it then comes from the backbone's recipe. The job echoes what
    was used, and what it echoes can be sent again."""

    model_config = ConfigDict(extra="forbid", strict=True)

    backbone: Annotated[str, Field(max_length=500)] | None = None
    epochs: int | None = None
    batch_size: int | None = None
    micro_batch_size: int | None = None
    learning_rate: float | None = None
    text_learning_rate: float | None = None
    classifier_learning_rate: float | None = None
    weight_decay: float | None = None
    scl_weight: float | None = None
    vld_weight: float | None = None
    alpha: float | None = None
    templates: Sentences | None = None
    prompts: Prompts | None = None
    image_size: int | None = None
    crop_scale: float | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] | None = None
    seed: int | None = None
    holdout: float | None = None
    evaluate: Literal["auto", "none"] | None = None
    delta_format: Literal["full", "4bit", "1bit"] | None = None


Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class ClassCounts(BaseModel):
    name: str
    images: int
    test_images: int


class Loss(BaseModel):
    total: float
    dva: float
    scl: float
    vld: float


class Progress(BaseModel):
    stage: str
    epoch: int
    epochs: int | None
    step: int
    steps: int | None
    fraction: float
    eta_seconds: float | None
    images_per_second: float | None
    loss: Loss | None


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
        "epoch": 3,
        "epochs": 10,
        "step": 3,
        "steps": 10,
        "fraction": 0.3,
        "eta_seconds": 12.5,
        "images_per_second": 18.0,
        "loss": {"total": 1.2, "dva": 0.6, "scl": 0.8, "vld": 0.4},
    },
    "model_id": None,
    "metrics": None,
    "warnings": [],
    "error": None,
}


class Job(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [JOB_EXAMPLE]})

    id: str
    object: Literal["job"] = "job"
    name: str | None
    status: Status
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    config: dict[str, Any]
    classes: list[ClassCounts]
    queue_position: int | None
    attempts: int
    progress: Progress | None
    model_id: str | None
    metrics: dict[str, Any] | None
    warnings: list[Notice]
    error: Notice | None

    @classmethod
    def of(cls, job: tables.Job, queue_position: int | None) -> "Job":
        error = None
        if job.error_code is not None:
            error = {"code": job.error_code, "detail": job.error_detail or ""}
        columns = {name: getattr(job, name) for name in cls.model_fields if hasattr(job, name)}
        return cls.model_validate({**columns, "queue_position": queue_position, "error": error})


class JobPage(BaseModel):
    data: list[Job]
    has_more: bool
    next_cursor: str | None


PREFLIGHT_EXAMPLE: JsonDict = {
    "object": "preflight",
    "acceptable": True,
    "config": {"backbone": "starter", "epochs": 10, "alpha": 0.5},
    "classes": [
        {"name": "red fox", "images": 8, "test_images": 2},
        {"name": "badger", "images": 8, "test_images": 2},
    ],
    "images": 20,
    "good": 19,
    "findings": [
        {
            "file": "badger/7.jpg",
            "class_name": "badger",
            "split": "train",
            "code": "near_duplicate_in_two_classes",
            "detail": "The mirror image of 'red fox/2.jpg' of the class 'red fox': one of the two labels "
            "must be wrong.",
            "other": "red fox/2.jpg",
        }
    ],
    "warnings": [],
    "estimate": {
        "seconds": 9.3,
        "low_seconds": 6.7,
        "high_seconds": 14.6,
        "memory_bytes": 2540000000,
        "basis": "From 1 job with this backbone and image size on this service.",
    },
}


class Finding(BaseModel):
    file: str
    class_name: str | None = Field(description="null where the image can't be read.")
    split: Literal["train", "test"] | None
    code: str
    detail: str
    other: str | None = Field(description="The file of which it is a copy.")


class Estimate(BaseModel):
    seconds: float | None = Field(description="Without the time in the queue; null: nothing is known.")
    low_seconds: float | None
    high_seconds: float | None
    memory_bytes: int | None
    basis: str = Field(description="What it was made from.")


class Preflight(BaseModel):
    """Images that no finding names are good."""

    model_config = ConfigDict(json_schema_extra={"examples": [PREFLIGHT_EXAMPLE]})

    object: Literal["preflight"] = "preflight"
    acceptable: bool = Field(
        description="False: POST /adapt would refuse the upload for the images that can't be read."
    )
    config: dict[str, Any]
    classes: list[ClassCounts]
    images: int
    good: int
    findings: list[Finding]
    warnings: list[Notice]
    estimate: Estimate


class EventList(BaseModel):
    data: list[Event]


STREAM_EXAMPLE = """event: log
data: {"seq":2,"at":"2026-11-25T02:05:12.789436Z","type":"started","data":{"worker":"gpu1:4711"}}
id: 2

event: progress
data: {"seq":9,"at":"2026-11-25T02:05:20.011273Z","type":"progress","data":{"stage":"training"}}
id: 9

event: done
data: {"seq":31,"at":"2026-11-25T02:06:03.690667Z","type":"succeeded","data":{"model_id":"mdl_01m8…"}}
id: 31

"""
