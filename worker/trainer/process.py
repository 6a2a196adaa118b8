"""Trainer processes, and the warm one that waits for the next job."""

import json
import logging
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)

# Environment variables that a trainer inherits. They contain no locations or secrets of the service.
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
    "GLIBC_TUNABLES",
}
KEPT_PREFIXES = (
    *("LC_", "LD_", "PYTHON", "SSL_", "XDG_", "HF_", "TORCH", "PYTORCH", "CUDA", "NVIDIA", "NCCL"),
    *("OMP_", "GOMP_", "MKL_", "KMP_", "OPENBLAS_", "ONEDNN_", "DNNL_", "MALLOC_"),
)
# Keep freed memory in the process, because returning it to the system after each step costs page faults.
MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(4 * 2**30),
}


class TrainerProcess:
    """A process of `python -m worker.trainer` for one job. It leads its own process group."""

    def __init__(self, folder: Path | None = None) -> None:
        """Start a trainer for the job in `folder`. Without a folder, the trainer waits for one."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "worker.trainer", *([] if folder is None else [str(folder)])],
            stdin=subprocess.PIPE,  # closes when this process ends, and then the trainer ends
            stdout=subprocess.PIPE,
            env=trainer_environment(os.environ),
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=_read_lines, args=(self._process.stdout, self._lines), daemon=True).start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def alive(self) -> bool:
        """Return whether the process is running."""
        return self._process.poll() is None

    def assign(self, folder: Path) -> None:
        """Assign a job to a warm trainer. If the warm trainer has died, `read_line` reports it."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(json.dumps({"folder": str(folder)}).encode() + b"\n")
            self._process.stdin.flush()

    def read_line(self, seconds: float) -> bytes | None:
        """Return the next line of output, or None if none arrives in this time.

        A line without a newline means that the process has ended.
        """
        try:
            return self._lines.get(timeout=seconds)
        except queue.Empty:
            return None

    def wait(self, seconds: float) -> int | None:
        """Return the exit status, or None if the process still runs after this time."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """Kill the whole process group. The worker removes the trainer's folder."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def trainer_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a trainer: inherited variables, and defaults for malloc.

    Passwords are removed from the URLs of proxies.
    """
    kept = {
        name: re.sub(r"//[^/]*@", "//", value) if name.upper().endswith("_PROXY") else value
        for name, value in ours.items()
        if (name.upper() in KEPT or name.startswith(KEPT_PREFIXES)) and "TOKEN" not in name
    }
    has_malloc_settings = any(k == "GLIBC_TUNABLES" or k.startswith("MALLOC_") for k in kept)
    return kept if has_malloc_settings else {**MALLOC, **kept}


def _read_lines(stdout: IO[bytes], lines: "queue.Queue[bytes]") -> None:
    for line in stdout:
        lines.put(line)
    lines.put(b"")


class WarmTrainer:
    """At most one trainer with finished imports, so that the next job starts sooner.

    The worker starts the warm trainer after a training, because during one the cores are busy and memory may
    suffice for only one process. If the warm trainer dies, the next job starts its own trainer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trainer: TrainerProcess | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the warm trainer, or None."""
        trainer = self._trainer
        return None if trainer is None else trainer.pid

    def prepare(self) -> None:
        """Start a warm trainer, unless one exists."""
        with self._lock:
            if self._closed or (self._trainer is not None and self._trainer.alive()):
                return
            self._drop()
            try:
                self._trainer = TrainerProcess()
            except OSError as error:  # out of memory or processes: the next job starts its own trainer
                logger.warning("A warm trainer could not be started: %s", error)

    def take(self) -> TrainerProcess | None:
        """Take the warm trainer, if any. The caller must assign it a job, and kill it at the end."""
        with self._lock:
            if self._trainer is not None and not self._trainer.alive():
                logger.warning("The warm trainer has died. The job starts another one.")
                self._drop()
            trainer, self._trainer = self._trainer, None
            return trainer

    def close(self) -> None:
        """Kill the warm trainer. No other is started."""
        with self._lock:
            self._closed = True
            self._drop()

    def _drop(self) -> None:
        if self._trainer is not None:
            self._trainer.kill()
        self._trainer = None
