"""One training: given to a trainer's process, followed to its end."""

import json
import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.errors import ClipCiteError
from worker.trainer.pool import TrainerPool
from worker.trainer.process import TrainerProcess

logger = logging.getLogger(__name__)
POLL_SECONDS = 0.1
# A standby answers when its imports are done and it has the job; one that is silent for longer hangs.
TAKE_SECONDS = 60
# Errors of the trainer that may be gone at the next attempt.
TRANSIENT_CODES = {"backbone_unavailable", "storage_full"}


class TrainerFailed(ClipCiteError):
    """The trainer ended with an error of its own, which would come again: not worth another try."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class TrainerDied(ClipCiteError):
    """The trainer's process is gone without a word, or was ended because it hung: worth a try."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Stopped(Exception):
    """The caller wanted the trainer to end."""


def run_trainer(
    folder: Path,
    *,
    on_message: Callable[[dict[str, Any]], None],
    should_stop: Callable[[], bool],
    deadline_seconds: float,
    stall_seconds: float,
    standby: TrainerPool | None = None,
) -> dict[str, Any]:
    """See the job in `folder` through, with the standby if there is one; returns the trainer's last
    message, the result.

    Raises:
        TrainerFailed, TrainerDied, Stopped. In any case the process group is gone afterwards.
    """
    waiting = standby.take() if standby is not None else None
    trainer = waiting or TrainerProcess(folder)
    taken = trainer is not waiting  # whether it is sure that the trainer has the job
    started = heard = time.monotonic()
    loading = True  # fetching a backbone from a hub says nothing for long; only the deadline ends that
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
                    f"The training took longer than {deadline_seconds:g} s (CLIPCITE_DEADLINE_SECONDS). "
                    "Use fewer epochs or images, or raise the limit.",
                )
            if not loading and now - heard > stall_seconds:
                raise TrainerDied(
                    "training_stalled",
                    f"The training made no progress for {stall_seconds:g} s and was ended. Look into the "
                    "worker's log; CLIPCITE_STALL_SECONDS sets the patience.",
                )
            line = trainer.read_line(POLL_SECONDS)
            ended = line is not None and not line.endswith(b"\n")  # perhaps in the middle of a line
            if not taken and (ended or now - started > TAKE_SECONDS):
                # What befell it while it stood by is not the job's fault, and costs it no attempt.
                logger.warning("The trainer that stood by does not take the job; another one is started")
                useless, trainer, taken = trainer, TrainerProcess(folder), True
                useless.kill()
                continue
            if ended:
                raise _died(trainer)
            if line is None:
                continue
            heard, taken = time.monotonic(), True
            message: dict[str, Any] = json.loads(line)
            if message["type"] == "failed":
                kind = TrainerDied if message["code"] in TRANSIENT_CODES else TrainerFailed
                raise kind(message["code"], message["detail"])
            if message["type"] == "done":
                return message  # the files are closed
            loading = message.get("stage") == "loading" or (loading and message["type"] != "stage")
            if message["type"] != "alive":
                on_message(message)
    finally:
        trainer.kill()


def _died(trainer: TrainerProcess) -> TrainerDied:
    exit_status = trainer.wait(10) or 0  # it may have closed its output and live on
    advice = "The worker's log says more."
    if exit_status == -signal.SIGKILL:
        advice = "Use a smaller batch_size or image_size. The worker's log says more."
    if exit_status == -signal.SIGKILL:
        how = "was killed (signal 9), most often because the machine ran out of memory"
    elif exit_status < 0:
        how = f"crashed (signal {-exit_status})"
    else:
        how = f"ended without a result (exit status {exit_status})"
    return TrainerDied(
        "trainer_died",
        f"The training process {how}. {advice}",
    )
