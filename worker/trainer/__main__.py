"""The trainer's process: `python -m worker.trainer FOLDER`, or without a folder to stand by for one.

It knows neither database nor broker. The folder holds `task.json`, the images and perhaps a checkpoint
of an earlier attempt; it adds the weights, and checkpoints while it trains. Its standard output is one
JSON object a line: what the supervisor shows and decides on.
"""

import json
import os
import queue
import sys
import threading
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from core.parent_watch import exit_with_parent
from core.scratch import FULL
from worker.trainer.protocol import CHECKPOINTS, REPORT, TASK, Task

# What a training imports, also what it would import only while it loads a backbone with a text tower of
# Hugging Face, as the starter is (half a second). A GPU is not touched: its context is the job's.
IMPORTS = (
    "core.clip.pipeline",
    "core.clip.weights.files",
    "transformers.modeling_utils",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
)


class Channel:
    """A reporter that writes lines for the supervisor, which ends the process to cancel it."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._since: tuple[float, float] | None = None
        """When it was first known how far it is, and how far that was."""

    def send(self, type: str, **fields: Any) -> None:
        self._stream.write(json.dumps({"type": type, **fields}) + "\n")
        self._stream.flush()

    def stage(self, name: str) -> None:
        self.send("stage", stage=name)

    def step(self, progress: Any) -> None:
        self.send("step", **vars(progress))

    def progressed(self, share: float) -> None:
        """With the seconds that are left at the pace of this process, which may have come in late."""
        now = time.monotonic()
        if self._since is None:
            self._since = (now, share)
        began, first = self._since
        left = (now - began) * (1 - share) / (share - first) if share > first else None
        self.send("progress", fraction=share, eta_seconds=left)

    def warn(self, code: str, detail: str) -> None:
        self.send("warning", code=code, detail=detail)

    def checkpoint(self, epoch: int) -> None:
        self.send("checkpoint", epoch=epoch)

    def resumed(self, epoch: int) -> None:
        self.send("resumed", epoch=epoch)

    def cancelled(self) -> bool:
        self.send("alive")  # asked between steps and batches, measuring included
        return False


def main(folder: Path | None) -> None:
    # Only we write to standard output; what a library prints goes to the log.
    channel = Channel(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    if folder is None:
        folder = stand_by()
    else:
        exit_with_parent(grace_seconds=0)
    from core.errors import ClipCiteError

    try:
        train(folder, Task(**json.loads((folder / TASK).read_text(encoding="utf-8"))), channel)
    except ClipCiteError as error:
        channel.send("failed", code=error.code, detail=error.detail)
    except OSError as error:
        if error.errno not in FULL:
            raise
        detail = f"The worker's disk is full ({error.filename or folder}). Make room there."
        channel.send("failed", code="storage_full", detail=detail)


def stand_by() -> Path:
    """The folder of the job, once there is one: a line on standard input. Until then we import.

    Standard input is the leash as well, so it is read from the beginning, in a thread: the parent's end
    ends us in the midst of the imports too.
    """
    given: queue.SimpleQueue[Path] = queue.SimpleQueue()

    def listen() -> None:
        line = b""
        while not line.endswith(b"\n"):
            read = os.read(sys.stdin.fileno(), 65_536)
            if not read:
                os._exit(1)
            line += read
        exit_with_parent(grace_seconds=0)  # nothing else is ever sent
        given.put(Path(json.loads(line)["folder"]))

    threading.Thread(target=listen, name="job", daemon=True).start()
    for module in IMPORTS:
        with suppress(ImportError):  # one that is missing is the job's to report
            import_module(module)
    return given.get()


def train(folder: Path, task: Task, channel: Channel) -> None:
    started = time.monotonic()
    channel.stage("loading")
    from core.clip.config import resolve_config
    from core.clip.data.images import ImageLimits
    from core.clip.models.backbone import load_backbone
    from core.clip.pipeline import Shot, adapt
    from core.clip.training.checkpoint import Checkpoints
    from core.clip.training.microbatch import reserve_gpu_memory
    from core.clip.weights.files import save_weights

    config = resolve_config(**task.config)
    backbone = load_backbone(
        config.backbone, cache=Path(task.cache), image_size=config.image_size, device=task.device
    )
    reserve_gpu_memory(backbone.device, task.serving_reserve_bytes)

    def shots(split: str) -> list[Shot]:
        return [Shot(folder / s["file"], s["class_name"]) for s in task.shots if s["split"] == split]

    adapted = adapt(
        backbone,
        shots("train"),
        config,
        tests=shots("test"),
        reporter=channel,
        limits=ImageLimits(task.max_image_bytes, task.max_image_pixels),
        checkpoints=Checkpoints(folder / CHECKPOINTS, seconds=task.checkpoint_seconds),
        seconds=task.deadline_seconds - (time.monotonic() - started),
    )
    channel.stage("saving")
    save_weights(
        folder,
        adapted.weights,
        backbone=backbone,
        class_names=adapted.class_names,
        config=config.to_dict(),
    )
    if adapted.evaluation.report is not None:
        # adapt() counts the training images first.
        order = [int(s["file"]) for split in ("train", "test") for s in task.shots if s["split"] == split]
        report = adapted.evaluation.report.to_dict()
        for image in (*report["mistakes"], *report["label_issues"]):
            image["position"] = order[image["position"]]
        (folder / REPORT).write_text(json.dumps(report, ensure_ascii=False), encoding="utf-8")
    channel.send("done", metrics=adapted.evaluation.metrics)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
