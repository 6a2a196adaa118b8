"""Protocol between worker and trainer: the task, the trainer's messages, and file names."""

import time
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from clipcite.types.adapt import AdaptConfig
from clipcite.types.images import Image
from clipcite.types.jobs import Phase
from core.clip.training.progress import StepProgress

TASK = "task.json"
CHECKPOINTS = "checkpoints"
REPORT = "report.json"


@dataclass(frozen=True)
class Task:
    """A training task as plain JSON."""

    config: AdaptConfig
    images: list[Image]
    """All images in the order of their positions, with the names of their files in the folder."""
    cache: str
    device: str
    max_image_bytes: int
    max_image_pixels: int
    checkpoint_seconds: float
    serving_reserve_bytes: int
    """GPU memory left free for an API."""
    trained_seconds: float | None = None
    """Duration of the training whose weights are in the folder; they are only evaluated. None: train."""
    ids: dict[str, str] = field(default_factory=dict)
    """Ids of the job and the request, for the trainer's log lines."""
    log: Literal["text", "json"] = "text"
    log_level: Literal["info", "warning"] = "info"


TASK_JSON = TypeAdapter(Task)


@dataclass(frozen=True, kw_only=True)
class Said:
    """A message of the trainer."""

    at: float = field(default_factory=time.monotonic)
    """Time of the monotonic clock (seconds), because the worker may read the message later."""


@dataclass(frozen=True, kw_only=True)
class Computes(Said):
    """The trainer computes. Sent between steps and (micro-)batches, also during the evaluation."""

    type: Literal["alive"] = "alive"


@dataclass(frozen=True, kw_only=True)
class PhaseBegun(Said):
    type: Literal["phase"] = "phase"
    phase: Phase


@dataclass(frozen=True, kw_only=True)
class Step(Said):
    """An optimiser step."""

    type: Literal["step"] = "step"
    progress: StepProgress


@dataclass(frozen=True, kw_only=True)
class Advance(Said):
    """The finished share of the phase, from 0 to 1."""

    type: Literal["advance"] = "advance"
    share: float


@dataclass(frozen=True, kw_only=True)
class CheckpointStored(Said):
    type: Literal["checkpoint"] = "checkpoint"
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Resumed(Said):
    """The training resumes after this epoch."""

    type: Literal["resumed"] = "resumed"
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Explained(Said):
    """A message with a code and a text for the job's owner."""

    code: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Warn(Explained):
    type: Literal["warning"] = "warning"


@dataclass(frozen=True, kw_only=True)
class Failed(Explained):
    type: Literal["failed"] = "failed"


@dataclass(frozen=True, kw_only=True)
class Result(Said):
    """The metrics, and the duration of the training (seconds)."""

    metrics: dict[str, Any]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Trained(Result):
    """The files of the model are complete. The evaluation follows."""

    type: Literal["trained"] = "trained"


@dataclass(frozen=True, kw_only=True)
class Done(Result):
    """All files are complete and closed."""

    type: Literal["done"] = "done"


Message = Computes | PhaseBegun | Step | Advance | Warn | CheckpointStored | Resumed | Trained | Done | Failed
MESSAGE_JSON: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])
