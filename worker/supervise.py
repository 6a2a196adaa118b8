"""The trainer's process: start it, read its progress, end it."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from core.clip.errors import ClipCiteError

POLL_SECONDS = 0.1
# Nothing of the service's own goes to the process that decodes strangers' pictures.
SECRETS = ("CLIPCITE_", "AWS_", "PG", "REDIS_")


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
) -> dict[str, Any]:
    """Run `python -m worker.trainer FOLDER` to its end; returns its last message, the result.

    Raises:
        TrainerFailed, TrainerDied, Stopped. In any case the process group is gone afterwards.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(SECRETS)}
    process = subprocess.Popen(
        [sys.executable, "-m", "worker.trainer", str(folder)],
        stdin=subprocess.PIPE,  # the leash: closed when this process is gone
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines: queue.Queue[bytes | None] = queue.Queue()
    threading.Thread(target=_read_lines, args=(process.stdout, lines), daemon=True).start()
    started = heard = time.monotonic()
    try:
        while True:
            if should_stop():
                raise Stopped
            now = time.monotonic()
            if now - started > deadline_seconds:
                raise TrainerFailed(
                    "deadline_exceeded",
                    f"The training took longer than {deadline_seconds:g} s (CLIPCITE_DEADLINE_SECONDS). "
                    "Use fewer epochs or pictures, or raise the limit.",
                )
            if now - heard > stall_seconds:
                raise TrainerDied(
                    "training_stalled",
                    f"The training made no progress for {stall_seconds:g} s and was ended. Look into the "
                    "worker's log; CLIPCITE_STALL_SECONDS sets the patience.",
                )
            try:
                line = lines.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if line is None:
                raise _died(process.wait())
            heard = time.monotonic()
            message = json.loads(line)
            if message["type"] == "failed":
                raise TrainerFailed(message["code"], message["detail"])
            if message["type"] == "done":
                process.wait(timeout=stall_seconds)
                result: dict[str, Any] = message
                return result
            on_message(message)
    finally:
        _end(process)


def _read_lines(stdout: IO[bytes], lines: "queue.Queue[bytes | None]") -> None:
    for line in stdout:
        lines.put(line)
    lines.put(None)


def _died(exit_status: int) -> TrainerDied:
    if exit_status == -signal.SIGKILL:
        how = "was killed (signal 9), most often because the machine ran out of memory"
    elif exit_status < 0:
        how = f"crashed (signal {-exit_status})"
    else:
        how = f"ended without a result (exit status {exit_status})"
    return TrainerDied(
        "trainer_died",
        f"The training process {how}. Use a smaller batch_size or image_size; the worker's log says more.",
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    """The whole group, at once: a trainer has nothing to tidy up, its folder is removed by us."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
