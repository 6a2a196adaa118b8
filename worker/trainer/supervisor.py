"""Supervision of one training in a trainer process."""

import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path

from core.errors import CodedError
from worker.trainer.process import TrainerProcess, WarmTrainer
from worker.trainer.protocol import MESSAGE_JSON, Computes, Done, Failed, Message, PhaseBegun

logger = logging.getLogger(__name__)
POLL_SECONDS = 0.1
# A warm trainer responds once its imports are done. One that is silent for longer hangs.
TAKE_SECONDS = 60
# Errors of the trainer that the next attempt may avoid.
TRANSIENT_CODES = {"backbone_unavailable", "storage_full"}


class TrainerFailed(CodedError):
    """A permanent error of the trainer. It is not retried."""


class TrainerDied(CodedError):
    """The trainer died or hung. The job is retried."""


class Stopped(Exception):
    """The caller requested a stop."""


def run_trainer(
    folder: Path,
    *,
    on_message: Callable[[Message], None],
    should_stop: Callable[[], bool],
    deadline_seconds: float,
    stall_seconds: float,
    warm_trainer: WarmTrainer | None = None,
) -> Done:
    """Train the job in `folder`, with the warm trainer if there is one. Return the trainer's last message.

    The model's files are complete when `on_message` receives `Trained`; the evaluation follows. Without an
    evaluation, they are complete at the end. When this function returns or raises, the process group has
    ended.

    Raises:
        TrainerFailed: a permanent error, or the deadline.
        TrainerDied: the process died or made no progress.
        Stopped: `should_stop` returned True.
    """
    waiting = warm_trainer.take() if warm_trainer is not None else None
    trainer = waiting or TrainerProcess(folder)
    taken = trainer is not waiting  # True once the trainer has certainly received the job
    started = heard = time.monotonic()
    loading = True  # it may include a download without messages, so only the deadline limits it
    try:
        if not taken:
            trainer.assign(folder)
        while True:
            if should_stop():
                raise Stopped
            now = time.monotonic()
            if now - started > deadline_seconds:
                raise TrainerFailed(
                    "deadline_exceeded",
                    f"The job took longer than {deadline_seconds:g} s (CLIPCITE_DEADLINE_SECONDS). "
                    "Use fewer epochs or images, or raise the limit.",
                )
            if not loading and now - heard > stall_seconds:
                raise TrainerDied(
                    "training_stalled",
                    f"The training made no progress for {stall_seconds:g} s and was killed. See the worker's "
                    "log. If the machine is merely slow for this network, set a smaller micro_batch_size.",
                )
            line = trainer.read_line(POLL_SECONDS)
            ended = line is not None and not line.endswith(b"\n")  # possibly within a line
            if not taken and (ended or now - started > TAKE_SECONDS):
                # The job did not cause a failure of the warm trainer, so it does not cost an attempt.
                logger.warning("The warm trainer does not take the job. Another trainer is started.")
                useless, trainer, taken = trainer, TrainerProcess(folder), True
                useless.kill()
                continue
            if ended:
                raise _died(trainer)
            if line is None:
                continue
            heard, taken = time.monotonic(), True
            match message := MESSAGE_JSON.validate_json(line):
                case Done():
                    return message
                case Failed(code=code, detail=detail):
                    raise (TrainerDied if code in TRANSIENT_CODES else TrainerFailed)(code, detail)
                case Computes():
                    continue
                case PhaseBegun(phase=phase):
                    loading = phase == "starting"
            on_message(message)
            heard = time.monotonic()  # the caller may have published the model, which may take long
    finally:
        trainer.kill()


def _died(trainer: TrainerProcess) -> TrainerDied:
    exit_status = trainer.wait(10) or 0  # it may still run with its output closed
    advice = "See the worker's log."
    if exit_status == -signal.SIGKILL:
        how = "was killed (signal 9), most often because the machine ran out of memory"
        advice = "Use a smaller batch_size or image_size. See the worker's log."
    elif exit_status < 0:
        how = f"crashed (signal {-exit_status})"
    else:
        how = f"ended without a result (exit status {exit_status})"
    return TrainerDied("trainer_died", f"The training process {how}. {advice}")
