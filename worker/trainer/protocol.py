"""Protocol between worker and trainer: the task, and file names."""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import TypeAdapter

from clipcite.types.adapt import AdaptConfig
from clipcite.types.images import Image

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
