"""The `progress` of a job, as the HTTP contract has it."""

from dataclasses import dataclass
from typing import Any


def progress(so_far: dict[str, Any] | None, **new: Any) -> dict[str, Any]:
    """What is new, and the rest as it was.

    `fraction` is of all the work, siblings and measuring included; epochs, steps and losses are those of
    the model itself.
    """
    nothing_yet = {
        **{"stage": "training", "epoch": 0, "epochs": None, "step": 0, "steps": None, "fraction": 0.0},
        **{"eta_seconds": None, "images_per_second": None, "loss": None},
    }
    return {**(so_far or nothing_yet), **new}


def of_step(message: dict[str, Any]) -> dict[str, Any]:
    """What a step of the training adds."""
    kept = ("epoch", "epochs", "step", "steps", "images_per_second")
    losses = {name: message[name] for name in ("total", "dva", "scl", "vld")}
    return {**{name: message[name] for name in kept}, "loss": losses}


TASK = "task.json"


CHECKPOINTS = "checkpoints"


REPORT = "report.json"


@dataclass(frozen=True)
class Task:
    """What is to be done, as plain JSON."""

    config: dict[str, Any]
    shots: list[dict[str, str]]
    """[{file, class_name, split}], `file` relative to the folder."""
    cache: str
    device: str
    max_image_bytes: int
    max_image_pixels: int
    checkpoint_seconds: float
    deadline_seconds: float
    """When the supervisor ends it."""
    serving_reserve_bytes: int
    """Memory of the GPU that is left alone."""
