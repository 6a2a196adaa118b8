"""Supervision of one training in a trainer process."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.errors import CodedError
from worker.trainer.process import TrainerProcess
from worker.trainer.warm import WarmTrainer

POLL_SECONDS = 0.1
# Errors of the trainer that may not occur at the next attempt.
TRANSIENT_CODES = {"backbone_unavailable", "storage_full"}


class TrainerFailed(CodedError):
    """A permanent error of the trainer, which is not retried."""


class TrainerDied(CodedError):
    """A trainer that died or hung, which is retried."""


class Stopped(Exception):
    """A stop that the caller requested."""


def run_trainer(
    folder: Path,
    *,
    on_message: Callable[[dict[str, Any]], None],
    should_stop: Callable[[], bool],
    deadline_seconds: float,
    stall_seconds: float,
    warm_trainer: WarmTrainer | None = None,
) -> dict[str, Any]:
    """Train the job in `folder`, by the warm trainer if there is one. Return the trainer's last message.

    The files of the model are complete when `on_message` receives `trained`, and the evaluation goes on.
    Without an evaluation they are complete at the end.

    The process group has ended when this function returns or raises.

    Raises:
        TrainerFailed: a permanent error, or the deadline.
        TrainerDied: the process died or made no progress.
        Stopped: `should_stop` returned True.
    """
    trainer = (warm_trainer and warm_trainer.take(folder)) or TrainerProcess(folder)
    started = heard = time.monotonic()
    loading = True  # the download of a backbone is silent, so only the deadline limits it
    try:
        while True:
            if should_stop():
                raise Stopped
            now = time.monotonic()
            if now - started > deadline_seconds:
                raise TrainerFailed(
                    "deadline_exceeded",
                    f"The training took longer than {deadline_seconds:g} s (CLIPCITE_DEADLINE_SECONDS). "
                    "Use fewer epochs or images, or raise the limit.",
                )
            if not loading and now - heard > stall_seconds:
                raise TrainerDied(
                    "training_stalled",
                    f"The training made no progress for {stall_seconds:g} s and was killed. See the worker's "
                    "log. If the machine is merely slow for this network, set a smaller micro_batch_size.",
                )
            line = trainer.read_line(POLL_SECONDS)
            if line is None:
                continue
            if not line.endswith(b"\n"):  # it has ended, possibly within a line
                raise _died(trainer)
            heard = time.monotonic()
            message: dict[str, Any] = json.loads(line)
            if message["type"] == "failed":
                kind = TrainerDied if message["code"] in TRANSIENT_CODES else TrainerFailed
                raise kind(message["code"], message["detail"])
            if message["type"] == "done":
                return message  # the files are closed
            loading = message.get("stage") == "preparing" or (loading and message["type"] != "stage")
            if message["type"] != "alive":
                on_message(message)
                heard = time.monotonic()  # the caller may have published the model, and waited for space
    finally:
        trainer.kill()


def _died(trainer: TrainerProcess) -> TrainerDied:
    exit_status = trainer.wait(10) or 0  # it may have closed its output but still run
    advice = "See the worker's log."
    if exit_status == -signal.SIGKILL:
        how = "was killed (signal 9), most often because the machine ran out of memory"
        advice = "Use a smaller batch_size or image_size. See the worker's log."
    elif exit_status < 0:
        how = f"crashed (signal {-exit_status})"
    else:
        how = f"ended without a result (exit status {exit_status})"
    return TrainerDied("trainer_died", f"The training process {how}. {advice}")
