"""The trainer's process, as its supervisor sees it."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

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
    "GLIBC_TUNABLES",
}


KEPT_PREFIXES = (
    *("LC_", "LD_", "PYTHON", "SSL_", "XDG_", "HF_", "TORCH", "PYTORCH", "CUDA", "NVIDIA", "NCCL"),
    *("OMP_", "MKL_", "KMP_", "OPENBLAS_", "ONEDNN_", "DNNL_", "MALLOC_"),
)


MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(4 * 2**30),
}


class TrainerProcess:
    """One process of `python -m worker.trainer`, the first of a group of its own. It serves one job."""

    def __init__(self, folder: Path | None = None) -> None:
        """For the job in `folder`; without one it stands by until it is given one."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "worker.trainer", *([] if folder is None else [str(folder)])],
            stdin=subprocess.PIPE,  # the leash: closed when this process is gone
            stdout=subprocess.PIPE,
            env=trainer_environment(os.environ),
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=_read_lines, args=(self._process.stdout, self._lines), daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def assign(self, folder: Path) -> None:
        """The job of one that stands by. That it has just died is heard soon enough."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(json.dumps({"folder": str(folder)}).encode() + b"\n")
            self._process.stdin.flush()

    def read_line(self, seconds: float) -> bytes | None:
        """Its next line; None if there is none within this time; without a line end if it has ended."""
        try:
            return self._lines.get(timeout=seconds)
        except queue.Empty:
            return None

    def wait(self, seconds: float) -> int | None:
        """Its exit status, None if it lives on."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """The whole group, at once: a trainer has nothing to tidy up, its folder is removed by us."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def trainer_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What a trainer gets to see of our environment, and how its memory is managed."""
    kept = {k: v for k, v in ours.items() if k.upper() in KEPT or k.startswith(KEPT_PREFIXES)}
    theirs = any(k == "GLIBC_TUNABLES" or k.startswith("MALLOC_") for k in kept)
    return kept if theirs else {**MALLOC, **kept}


def _read_lines(stdout: IO[bytes], lines: "queue.Queue[bytes]") -> None:
    for line in stdout:
        lines.put(line)
    lines.put(b"")
