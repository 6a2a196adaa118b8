"""Processes that decode images for this process (`core.clip.data.decoder`), on Linux.

They are shared by all requests, started when they are needed, and replaced when they die.
"""

import fcntl
import json
import logging
import mmap
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from PIL import Image

import core
from core.admission import ServerBusy
from core.clip.data.decoder import INPUT_BYTES, MAX_MESSAGE, MEMORY_BYTES
from core.clip.data.images import ImageLimits, read_file
from core.clip.errors import BadImage

logger = logging.getLogger(__name__)
START_SECONDS = 120
KEPT_BYTES = 4 * 1024 * 1024
"""Shared memory that a process keeps between images."""
CRASHED = "The file is damaged: reading it has failed badly. Save the image again with an image editor."
CHANNELS = {"L": 1, "RGB": 3}
_idle: list["DecoderProcess"] = []
_lock = threading.Lock()
# PR_SET_PDEATHSIG reacts to the end of the thread that started the process, so this thread never ends.
_starter = ThreadPoolExecutor(1, thread_name_prefix="decoder-starter")


def _environment() -> dict[str, str]:
    """Return an environment without the service's variables, which may hold secrets."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return kept | threads | {"PYTHONPATH": str(Path(core.__file__).parents[1]), "PYTHONSAFEPATH": "1"}


def too_slow(seconds: float) -> str:
    """Return the text for an image over its deadline."""
    return f"The image could not be decoded within {seconds:g} s. Save it as baseline JPEG, or scale it down."


class TooLarge(Exception):
    """The image needs more memory than allowed here."""


class DecoderProcess:
    """One process and the memory that it shares with this one."""

    def __init__(self) -> None:
        memory = os.memfd_create("image", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            os.ftruncate(memory, MEMORY_BYTES)
            # A file that shrinks would end this process by SIGBUS.
            fcntl.fcntl(
                memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            )
            self._memory = mmap.mmap(memory, MEMORY_BYTES)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "core.clip.data.decoder"]
                + [str(number) for number in (theirs.fileno(), memory, os.getpid())],
                pass_fds=(theirs.fileno(), memory),
                stdin=subprocess.DEVNULL,
                cwd="/",
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for the parent
            )
        finally:
            theirs.close()
            os.close(memory)
        self._link.settimeout(START_SECONDS)
        if not self._link.recv(MAX_MESSAGE):
            raise OSError(f"it has ended with status {self._process.wait()}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def decode(
        self,
        source: bytes,
        limits: ImageLimits,
        hold: Callable[[int], AbstractContextManager[None]],
        **options: Any,
    ) -> tuple[Image.Image, float]:
        """Return the image and the CPU seconds that it took.

        Args:
            hold: returns a context that holds memory for an image above `small_bytes`, or raises TooLarge.
            options: `shortest_side`, `grey`, `small_bytes` and `seconds`, the limit on the time.

        Raises:
            BadImage: the file is no image within the limits, took too long, or crashed the process.
            TooLarge: `hold` raised it.
        """
        source = read_file(source, min(limits.max_bytes, INPUT_BYTES))
        usable, pixels = False, 0
        try:
            self._memory[: len(source)] = source
            self._link.settimeout(options["seconds"])
            answer = self._ask(
                bytes=len(source), max_bytes=limits.max_bytes, max_pixels=limits.max_pixels, **options
            )
            with ExitStack() as held:
                if "peak_bytes" in answer:
                    try:
                        held.enter_context(hold(int(answer["peak_bytes"])))
                    except TooLarge:
                        self._ask(go_on=False)
                        usable = True
                        raise
                    answer = self._ask(go_on=True)
                if "code" in answer:
                    usable = True
                    raise BadImage(str(answer["code"]), str(answer["detail"]))
                mode, (width, height) = answer["mode"], answer["size"]
                if width * height > limits.max_pixels:
                    raise ValueError(width, height)
                pixels = CHANNELS[mode] * width * height
                view = memoryview(self._memory)[INPUT_BYTES : INPUT_BYTES + pixels]
                image = Image.frombytes(mode, (width, height), view)
                usable = True
                return image, float(answer["seconds"])
        except TimeoutError:
            raise BadImage("image_too_costly", too_slow(options["seconds"])) from None
        except (OSError, ValueError, KeyError, TypeError) as error:  # dead, or taken over
            raise BadImage("truncated_image", CRASHED) from error
        finally:
            if not usable:
                self.kill()
            elif len(source) + pixels > KEPT_BYTES:
                self._memory.madvise(mmap.MADV_REMOVE)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def _ask(self, **message: Any) -> dict[str, Any]:
        self._link.send(json.dumps(message).encode())
        answer = json.loads(self._link.recv(MAX_MESSAGE))
        if not isinstance(answer, dict):
            raise TypeError
        return answer


def decode(
    source: bytes,
    limits: ImageLimits,
    hold: Callable[[int], AbstractContextManager[None]],
    **options: Any,
) -> tuple[Image.Image, float]:
    """Decode an image in an idle process, or in a new one. See `DecoderProcess.decode`.

    Raises:
        ServerBusy: no process can be started.
    """
    with _lock:
        process = _idle.pop() if _idle else None
    if process is None or not process.is_alive():
        process = _new_process()
    try:
        return process.decode(source, limits, hold, **options)
    finally:
        if process.is_alive():
            with _lock:
                _idle.append(process)


def start(count: int) -> None:
    """Start processes up to this number, so that the first images need not wait for them."""
    with _lock:
        missing = count - len(_idle)
    started = [_new_process() for _ in range(missing)]
    with _lock:
        _idle.extend(started)


def _new_process() -> DecoderProcess:
    try:
        return _starter.submit(DecoderProcess).result()
    except (OSError, RuntimeError) as error:  # no memory or process left, broken installation, or at shutdown
        logger.error("A process that decodes images cannot be started: %s", error)
        raise ServerBusy("No process for decoding can be started. Try again in a few seconds.") from error
