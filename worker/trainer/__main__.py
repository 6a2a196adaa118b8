"""The trainer process: `python -m worker.trainer [FOLDER]`. Without a folder, it waits for a job.

The trainer can't access the database or the broker. The folder has `task.json`, the images and possibly a
checkpoint of an earlier attempt. The trainer adds checkpoints and the weights, and writes one JSON object per
line to standard output for the supervisor.
"""

import json
import logging
import os
import queue
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import IO

from clipcite.types.jobs import Phase
from core.clip.training.progress import Reporter, StepProgress
from core.parent_watch import exit_with_parent
from core.scratch import DISK_FULL, WorkerDiskFull
from worker.trainer.protocol import (
    CHECKPOINTS,
    MESSAGE_JSON,
    REPORT,
    TASK,
    TASK_JSON,
    Advance,
    CheckpointStored,
    Computes,
    Done,
    Failed,
    Message,
    PhaseBegun,
    Resumed,
    Step,
    Task,
    Trained,
    Warn,
)

# Imports for a training, including a Hugging Face text tower such as the starter's (0.5 s). They do not use
# the GPU, because a CUDA context belongs to a job.
IMPORTS = (
    "core.clip.pipeline",
    "core.clip.weights.files",
    "transformers.modeling_utils",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
)
logger = logging.getLogger("worker.trainer")


class Channel(Reporter):
    """A reporter that writes JSON lines for the supervisor, which cancels by killing the process."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def send(self, message: Message) -> None:
        self._stream.write(MESSAGE_JSON.dump_json(message).decode() + "\n")
        self._stream.flush()

    def phase(self, name: Phase) -> None:
        self.send(PhaseBegun(phase=name))

    def step(self, progress: StepProgress) -> None:
        self.send(Step(progress=progress))

    def advance(self, share: float) -> None:
        self.send(Advance(share=share))

    def warn(self, code: str, detail: str) -> None:
        self.send(Warn(code=code, detail=detail))

    def checkpoint(self, epoch: int) -> None:
        self.send(CheckpointStored(epoch=epoch))

    def resumed(self, epoch: int) -> None:
        self.send(Resumed(epoch=epoch))

    def cancelled(self) -> bool:
        self.send(Computes())
        return False


def main(folder: Path | None) -> None:
    # Standard output is for messages only. The output of libraries goes to the log.
    channel = Channel(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    if folder is None:
        folder = stand_by()
    else:
        exit_with_parent(grace_seconds=0)
    from core.errors import ExpectedError
    from core.log import from_here, start_logging
    from core.settings import Settings

    task = TASK_JSON.validate_json((folder / TASK).read_bytes())
    start_logging(Settings(log=task.log, log_level=task.log_level))
    from_here(**task.ids)
    logger.info("%s: the trainer has started", task.ids.get("job_id", folder))
    try:
        channel.send(train(folder, task, channel))
    except ExpectedError as error:
        channel.send(Failed(code=error.code, detail=error.detail))
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        full = WorkerDiskFull(error.filename or folder)
        channel.send(Failed(code=full.code, detail=full.detail))


def stand_by() -> Path:
    """Import modules, then wait for a line on standard input with the folder of a job.

    A thread reads standard input from the start. When it closes, the parent has ended, and this process must
    stop even during the imports.
    """
    folders: queue.SimpleQueue[Path] = queue.SimpleQueue()

    def listen() -> None:
        line = b""
        while not line.endswith(b"\n"):
            read = os.read(sys.stdin.fileno(), 65_536)
            if not read:
                os._exit(1)
            line += read
        exit_with_parent(grace_seconds=0)  # there is no second line
        folders.put(Path(json.loads(line)["folder"]))

    threading.Thread(target=listen, name="job", daemon=True).start()
    for module in IMPORTS:
        with suppress(ImportError):  # the job will report a missing module
            import_module(module)
    return folders.get()


def train(folder: Path, task: Task, channel: Channel) -> Done:
    """Run a task: train and write the weights to the folder, then evaluate and write the report.

    Returns:
        The last message.
    """
    channel.phase("starting")
    from core.clip.data.decoders import decoded_apart
    from core.clip.data.header import ImageLimits
    from core.clip.evaluation.accuracy import job_metrics
    from core.clip.evaluation.evaluate import Evaluated
    from core.clip.models.backbone import load_backbone
    from core.clip.models.speed import choose_precision
    from core.clip.pipeline import TrainedModel, adapt
    from core.clip.training.checkpoint import Checkpoints
    from core.clip.training.microbatch import reserve_gpu_memory
    from core.clip.weights.files import load_weights, save_weights
    from core.clip.weights.manifest import MANIFEST, WEIGHTS, read_manifest

    config = task.config
    backbone = load_backbone(
        config.backbone, cache=Path(task.cache), image_size=config.image_size, device=task.device
    )
    reserve_gpu_memory(backbone.device, task.serving_reserve_bytes)
    checkpoints = Checkpoints(folder / CHECKPOINTS, seconds=task.checkpoint_seconds)
    precision = checkpoints.precision() or choose_precision(backbone, config, Path(task.cache))
    config = config.model_copy(update={"precision": precision})

    images = [replace(image, content=folder / str(image.content)) for image in task.images]
    labels = [image.class_name for image in images if image.split == "train"]
    trained = None
    if task.trained_seconds is not None:
        manifest = read_manifest((folder / MANIFEST).read_bytes())
        weights = load_weights((folder / WEIGHTS).read_bytes(), manifest, backbone)
        trained = TrainedModel(weights, task.trained_seconds)

    def publish(trained: TrainedModel) -> None:
        names = tuple(dict.fromkeys(labels))
        settings = config.model_dump()
        save_weights(folder, trained.weights, backbone=backbone, class_names=names, config=settings)
        if config.evaluate != "none":
            metrics = job_metrics(None, "evaluating", source="none", trained_images=len(labels))
            stored = Evaluated(metrics).stored_metrics()
            channel.send(Trained(metrics=stored, seconds=round(trained.seconds, 1)))

    with decoded_apart():
        adapted = adapt(
            backbone,
            images,
            config,
            reporter=channel,
            limits=ImageLimits(task.max_image_bytes, task.max_image_pixels),
            checkpoints=checkpoints,
            on_trained=publish,
            trained=trained,
        )
    evaluation = adapted.evaluation
    if evaluation.report is not None:
        (folder / REPORT).write_text(evaluation.report.model_dump_json(), encoding="utf-8")
    return Done(metrics=evaluation.stored_metrics(), seconds=round(adapted.seconds, 1))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
