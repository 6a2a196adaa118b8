"""Request and response schemas of training jobs."""

from collections.abc import Mapping
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
from core.settings import MAX_IMAGES
from core.store.db import tables

MAX_CLASSES = 10_000
Sentences = Annotated[list[Sentence], Field(fail_fast=True, min_length=1, max_length=MAX_TEMPLATES)]


def _fail_fast(value: Any) -> Any:
    """Reject large or invalid prompts early, because pydantic checks all entries and reports each error."""
    if not isinstance(value, dict):
        return value
    if len(value) > MAX_CLASSES:
        raise PydanticCustomError(
            "too_long",
            "There are prompts for {count} classes. Send them for at most {limit}",
            {"count": len(value), "limit": MAX_CLASSES},
        )
    for name, sentences in value.items():
        valid = isinstance(sentences, list) and 1 <= len(sentences) <= MAX_TEMPLATES
        if not valid or not all(isinstance(sentence, str) for sentence in sentences):
            return {name: sentences}
    return value


Prompts = Annotated[dict[RawName, Sentences], Field(max_length=MAX_CLASSES), BeforeValidator(_fail_fast)]
"""Prompts by class name."""


def known_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a stored job that this version knows."""
    return {name: value for name, value in config.items() if name in JobConfig.model_fields}


class JobConfig(RequestModel):
    """Training settings. Missing fields come from the backbone's recipe.

    The job returns the resolved settings, which can be sent again.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    backbone: Annotated[str, Field(max_length=500)] | None = Field(
        None, description="Pre-trained model to start from."
    )
    epochs: int | None = Field(None, description="Training epochs, from 1 to 1,000.")
    batch_size: int | None = Field(None, description="Maximum images per step, from 2 to 4,096.")
    micro_batch_size: int | None = Field(
        None,
        description="Images of a batch that are processed at once. Fewer take less memory and more time; the "
        "result is the same. Default: the whole batch.",
    )
    learning_rate: float | None = Field(None, description="Peak learning rate of both towers.")
    text_learning_rate: float | None = Field(
        None,
        description="Peak learning rate of the text tower; 0 freezes it. Default: `learning_rate`.",
    )
    classifier_learning_rate: float | None = Field(
        None, description="Peak learning rate of the classifier that is discarded after training."
    )
    weight_decay: float | None = Field(None, description="AdamW's weight decay of the towers.")
    scl_weight: float | None = Field(None, description="Weight λ of the contrastive loss (paper, eq. 6).")
    vld_weight: float | None = Field(None, description="Weight η of the distillation loss (paper, eq. 6).")
    alpha: float | None = Field(
        None, description="Mixing weight from 0 (stock) to 1 (fine-tuned), rounded to 0.01."
    )
    templates: Sentences | None = Field(
        None, description="Prompt templates, each with `{}` for the class name."
    )
    prompts: Prompts | None = Field(None, description="Prompts by class name, used instead of the templates.")
    image_size: int | None = Field(
        None, description="Side of the input square in pixels, from 32 to 1,024. Default: the backbone's."
    )
    crop_scale: float | None = Field(
        None, description="Minimum share of the image that a random crop covers, from 0.01 to 1."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] | None = Field(
        None, description="Number format of the training."
    )
    seed: int | None = Field(None, description="Seed of all random numbers.")
    holdout: float | None = Field(
        None,
        description="Share of the images per class that is held out for evaluation, from 0 to 0.5. Ignored "
        "if there are test images.",
    )
    evaluate: Literal["auto", "none"] | None = Field(
        None,
        description="`auto` creates a report, `none` evaluates nothing. Without test images and `holdout`, "
        "`auto` uses cross-validation, which takes about as long as the training.",
    )
    delta_format: Literal["full", "4bit", "1bit"] | None = Field(
        None, description="Storage format of the trained weights: at full precision or quantised."
    )


Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Until = Literal["model", "end"]


class Retraining(RequestModel):
    """Corrections of a job's images by their `position` (upload order, as in the report), and settings."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"moved": {"3": "badger"}, "removed": [7], "confirmed": [12]}]}
    )

    moved: dict[Annotated[int, Field(ge=0)], RawName] = Field(
        {}, max_length=MAX_IMAGES, description="Correct class name by position. New class names are allowed."
    )
    removed: list[Annotated[int, Field(ge=0)]] = Field(
        [], max_length=MAX_IMAGES, description="Positions of images to leave out."
    )
    confirmed: list[Annotated[int, Field(ge=0)]] = Field(
        [],
        max_length=MAX_IMAGES,
        description="Positions of images whose labels are right. They are no label issues any more.",
    )
    config: JobConfig | None = Field(None, description="Settings to change. All others are the job's.")
    name: Annotated[str, Field(json_schema_extra={"maxLength": 200})] | None = Field(
        None, description="Name of the new job. Default: the job's."
    )


class ClassCounts(BaseModel):
    """Numbers of images of a class."""

    name: str
    images: int = Field(description="Number of training images.")
    test_images: int = Field(description="Number of test images.")


class Loss(BaseModel):
    """Loss and its three terms (paper, eq. 6), without their weights."""

    total: float
    dva: float
    scl: float
    vld: float


class Progress(BaseModel):
    """Progress of a job. Epochs, steps and losses are those of the training."""

    stage: str = Field(
        description="`preparing`, `training`, `publishing`, then `evaluating`, when the job has a `model_id`."
    )
    epoch: int
    epochs: int | None
    step: int
    steps: int | None
    fraction: float = Field(
        description="Finished share of all the work, evaluation included, from 0 to 1. It never falls within "
        "an attempt."
    )
    eta_seconds: float | None = Field(
        description="Estimated seconds until the job ends; null if unknown. It never rises within an attempt."
    )
    model_eta_seconds: float | None = Field(
        None,
        description="Estimated seconds until the model can be used; null if unknown, or once there is a "
        "`model_id`.",
    )
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
        "model_eta_seconds": 6.5,
        "images_per_second": 18.0,
        "loss": {"total": 1.2, "dva": 0.6, "scl": 0.8, "vld": 0.4},
    },
    "model_id": None,
    "metrics": None,
    "warnings": [],
    "error": None,
    "request_id": "req_b92e80280a52fa3ffd6216db",
}


class Job(BaseModel):
    """Training job."""

    model_config = ConfigDict(json_schema_extra={"examples": [JOB_EXAMPLE]})

    id: str
    object: Literal["job"] = "job"
    name: str | None = Field(description="Name of the job and of its model.")
    status: Status
    cancel_requested: bool = Field(description="True while a running job is being cancelled.")
    created_at: datetime
    started_at: datetime | None = Field(description="Start of the first attempt.")
    finished_at: datetime | None
    config: dict[str, Any] = Field(description="Resolved training settings.")
    classes: list[ClassCounts]
    queue_position: int | None = Field(
        description="Position in the queue; 1 is next, 1000 means 1000 or later. Null unless queued."
    )
    attempts: int = Field(description="Number of times that a worker started the job.")
    progress: Progress | None = Field(description="Progress while the job runs.")
    model_id: str | None = Field(description="Id of the model, once it can be used. Its evaluation follows.")
    metrics: dict[str, Any] | None = Field(
        description="Summary of the evaluation; the report has more. Before it, `verdict` is `evaluating`."
    )
    warnings: list[Notice]
    error: Notice | None = Field(description="Reason of the failure.")
    request_id: str | None = Field(None, description="Id of the request that created the job.")

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
    """Problem of an image."""

    file: str
    class_name: str | None = Field(description="Class of the image; null if the image can't be read.")
    split: Literal["train", "test"] | None
    code: str = Field(description="Machine-readable code of the problem.")
    detail: str = Field(description="Explanation for a person.")
    other: str | None = Field(description="File that this image duplicates.")


class Estimate(BaseModel):
    """Estimated cost of the job."""

    seconds: float | None = Field(description="Duration without the queue; null without any basis.")
    low_seconds: float | None = Field(description="Lower bound of the duration.")
    high_seconds: float | None = Field(description="Upper bound of the duration.")
    memory_bytes: int | None = Field(description="Peak memory of the training.")
    basis: str = Field(description="Origin of the estimate, for a person.")


class Preflight(BaseModel):
    """Result of the checks before training. Images without a finding are good."""

    model_config = ConfigDict(json_schema_extra={"examples": [PREFLIGHT_EXAMPLE]})

    object: Literal["preflight"] = "preflight"
    acceptable: bool = Field(
        description="False if POST /adapt would reject the upload because of unreadable images."
    )
    config: dict[str, Any] = Field(description="Resolved training settings.")
    classes: list[ClassCounts]
    images: int = Field(description="Number of images, unreadable ones included.")
    good: int = Field(description="Number of images without a finding.")
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
