"""Protocol between worker and trainer: the task, file names, and the `progress` of a job."""

from dataclasses import dataclass
from typing import Any


def progress(so_far: dict[str, Any] | None, **new: Any) -> dict[str, Any]:
    """Return the progress with new values.

    `fraction` covers all the work, including cross-validation and evaluation. Epochs, steps and losses
    are those of the model itself.
    """
    initial = {
        **{"stage": "training", "epoch": 0, "epochs": None, "step": 0, "steps": None, "fraction": 0.0},
        **{"eta_seconds": None, "images_per_second": None, "loss": None},
    }
    return {**(so_far or initial), **new}


def step_progress(message: dict[str, Any]) -> dict[str, Any]:
    """Return the progress values of a training step's message."""
    kept = ("epoch", "epochs", "step", "steps", "images_per_second")
    losses = {name: message[name] for name in ("total", "dva", "scl", "vld")}
    return {**{name: message[name] for name in kept}, "loss": losses}


TASK = "task.json"


CHECKPOINTS = "checkpoints"


REPORT = "report.json"


@dataclass(frozen=True)
class Task:
    """A training task as plain JSON."""

    config: dict[str, Any]
    shots: list[dict[str, Any]]
    """List of {file, class_name, split, label_confirmed}, with `file` relative to the folder."""
    cache: str
    device: str
    max_image_bytes: int
    max_image_pixels: int
    checkpoint_seconds: float
    deadline_seconds: float
    """Time after which the supervisor kills the trainer."""
    serving_reserve_bytes: int
    """GPU memory left free for an API."""
