"""The trainer's process: `python -m worker.trainer FOLDER`.

It knows neither database nor broker. The folder holds `task.json` and the pictures; it adds the
weights. Its standard output is one JSON object a line: what the supervisor shows and decides on.
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from core.leash import end_with_parent

TASK = "task.json"


@dataclass(frozen=True)
class Task:
    """What is to be done, as plain JSON."""

    config: dict[str, Any]
    shots: list[dict[str, str]]
    """[{file, class_name, split}], `file` relative to the folder."""
    cache: str
    device: str
    max_picture_bytes: int
    max_picture_pixels: int


class Channel:
    """A reporter that writes lines for the supervisor, which ends the process to cancel it."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def send(self, type: str, **fields: Any) -> None:
        self._stream.write(json.dumps({"type": type, **fields}) + "\n")
        self._stream.flush()

    def stage(self, name: str) -> None:
        self.send("stage", stage=name)

    def step(self, progress: Any) -> None:
        self.send("step", **vars(progress))

    def warn(self, code: str, detail: str) -> None:
        self.send("warning", code=code, detail=detail)

    def cancelled(self) -> bool:
        self.send("alive")  # asked between steps and batches, measuring included
        return False


def main(folder: Path) -> None:
    # Only we write to standard output; what a library prints goes to the log.
    channel = Channel(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    end_with_parent(grace_seconds=0)
    from core.clip.errors import ClipCiteError

    try:
        train(folder, Task(**json.loads((folder / TASK).read_text(encoding="utf-8"))), channel)
    except ClipCiteError as error:
        channel.send("failed", code=error.code, detail=error.detail)


def train(folder: Path, task: Task, channel: Channel) -> None:
    channel.stage("loading")
    from core.clip.adapt import Shot, adapt
    from core.clip.backbone import load_backbone
    from core.clip.config import resolve_config
    from core.clip.images import PictureLimits
    from core.clip.weights import save_weights

    config = resolve_config(**task.config)
    backbone = load_backbone(
        config.backbone, cache=Path(task.cache), image_size=config.image_size, device=task.device
    )

    def shots(split: str) -> list[Shot]:
        return [Shot(folder / s["file"], s["class_name"]) for s in task.shots if s["split"] == split]

    adapted = adapt(
        backbone,
        shots("train"),
        config,
        tests=shots("test"),
        reporter=channel,
        limits=PictureLimits(task.max_picture_bytes, task.max_picture_pixels),
    )
    channel.stage("saving")
    save_weights(
        folder,
        adapted.theta_1,
        backbone=backbone,
        class_names=adapted.class_names,
        config=config.to_dict(),
    )
    channel.send("done", metrics=adapted.metrics)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
