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
# What the trainer may know of the environment: how to run, not where the service keeps its things.
KEPT = {
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "TZ",
    "TMPDIR",
    "VIRTUAL_ENV",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
}
KEPT_PREFIXES = (
    *("LC_", "LD_", "PYTHON", "SSL_", "XDG_", "HF_", "TORCH", "PYTORCH", "CUDA", "NVIDIA", "NCCL"),
    *("OMP_", "MKL_", "KMP_", "OPENBLAS_", "ONEDNN_", "DNNL_"),
)
# Errors of the trainer that may be gone at the next attempt.
PASSING = {"backbone_unavailable"}


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
    environment = {k: v for k, v in os.environ.items() if k.upper() in KEPT or k.startswith(KEPT_PREFIXES)}
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
    loading = True  # fetching a backbone from a hub says nothing for long; only the deadline ends that
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
            if not loading and now - heard > stall_seconds:
                raise TrainerDied(
                    "training_stalled",
                    f"The training made no progress for {stall_seconds:g} s and was ended. Look into the "
                    "worker's log; CLIPCITE_STALL_SECONDS sets the patience.",
                )
            try:
                line = lines.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if line is None or not line.endswith(b"\n"):  # its end, perhaps in the middle of a line
                raise _died(process)
            heard = time.monotonic()
            message: dict[str, Any] = json.loads(line)
            if message["type"] == "failed":
                kind = TrainerDied if message["code"] in PASSING else TrainerFailed
                raise kind(message["code"], message["detail"])
            if message["type"] == "done":
                return message  # the files are closed
            loading = message.get("stage") == "loading" or (loading and message["type"] != "stage")
            if message["type"] != "alive":
                on_message(message)
    finally:
        _end(process)


def _read_lines(stdout: IO[bytes], lines: "queue.Queue[bytes | None]") -> None:
    for line in stdout:
        lines.put(line)
    lines.put(None)


def _died(process: "subprocess.Popen[bytes]") -> TrainerDied:
    try:
        exit_status = process.wait(timeout=10)
    except subprocess.TimeoutExpired:  # it closed its output and lives on
        exit_status = 0
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


def _end(process: "subprocess.Popen[bytes]") -> None:
    """The whole group, at once: a trainer has nothing to tidy up, its folder is removed by us."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
