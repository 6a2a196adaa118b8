"""A process that decodes images (`core.clip.data.decoder`), on Linux, and its shared memory."""

import fcntl
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import core
from core.clip.data.decoder import INPUT_BYTES, MAX_MESSAGE, MEMORY_BYTES
from core.clip.data.header import ImageLimits
from core.clip.errors import BadImage

START_SECONDS = 120
SECONDS = 30.0
"""Maximum time for an image (seconds). CPU time has a lower limit, so this one is for processes that hang."""
KEPT_BYTES = 4 * 1024 * 1024
"""Shared memory that a process keeps between images."""
CHANNELS = {"L": (), "RGB": (3,)}
# PR_SET_PDEATHSIG reacts to the end of the thread that started the process, so this thread never ends.
_starter = ThreadPoolExecutor(1, thread_name_prefix="decoder-starter")


class MoreRoom(Exception):
    """An image needs more memory than it was given."""

    def __init__(self, room: int) -> None:
        super().__init__(room)
        self.room = room
        """Memory for a next try (bytes)."""


def _environment() -> dict[str, str]:
    """Return an environment without the service's variables, which may hold secrets."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    # A second arena, of a thread, would take the address space of an image.
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    return kept | threads | {"PYTHONPATH": str(Path(core.__file__).parents[1]), "PYTHONSAFEPATH": "1"}


class DecoderProcess:
    """A process that decodes one image at a time: `begin`, then `finish`."""

    def __init__(self) -> None:
        memory = os.memfd_create("image", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            os.ftruncate(memory, MEMORY_BYTES)
            # If the file shrank, SIGBUS would end this process.
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
        self.link.settimeout(START_SECONDS)
        if not self.link.recv(MAX_MESSAGE):
            raise OSError(f"it has ended with status {self._process.wait()}")

    @classmethod
    def start(cls) -> "DecoderProcess":
        """Start a process that ends with this one. Raise OSError or RuntimeError if that is impossible."""
        return _starter.submit(cls).result()

    @property
    def pid(self) -> int:
        return self._process.pid

    def begin(self, source: bytes, limits: ImageLimits, room: int, **options: Any) -> None:
        """Send an image.

        Args:
            room: memory for decoding (bytes).
            options: `shortest_side`, `grey` and `fit` as in `open_image`.
        """
        self._bytes, self._max_pixels = len(source), limits.max_pixels
        self._memory[: self._bytes] = source
        fields = {"bytes": self._bytes, "limits": (limits.max_bytes, limits.max_pixels), "room": room}
        try:
            self.link.send(json.dumps(fields | options).encode())
        except OSError:  # `finish` finds it dead
            return

    def finish(self, seconds: float) -> NDArray[np.uint8]:
        """Wait for the pixels [H, W, 3], or [H, W] if grey.

        Raises:
            BadImage: the file is not an image within the limits, took too long, or crashed the process.
            MoreRoom: the image needs more memory.
        """
        usable, pixels = False, 0
        try:
            self.link.settimeout(max(seconds, 0.001))
            answer = json.loads(self.link.recv(MAX_MESSAGE))
            if "room" in answer or "code" in answer:
                usable = True
                if "room" in answer:
                    raise MoreRoom(int(answer["room"]))
                raise BadImage(str(answer["code"]), str(answer["detail"]))
            width, height = answer["size"]
            if min(width, height) < 1 or width * height > self._max_pixels:
                raise ValueError(width, height)
            shape = (height, width, *CHANNELS[answer["mode"]])
            pixels = int(np.prod(shape))
            image = np.frombuffer(self._memory, np.uint8, pixels, INPUT_BYTES).reshape(shape).copy()
            usable = True
            return image
        except TimeoutError:
            raise _too_slow() from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # dead, or taken over
            self._process.kill()
            if self._process.wait() == -signal.SIGPROF:
                raise _too_slow() from None
            raise BadImage(
                "truncated_image",
                "The file is damaged: reading it has failed badly. Save it again with an image editor.",
            ) from error
        finally:
            if not usable:
                self.kill()
            elif self._bytes + pixels > KEPT_BYTES:
                self._memory.madvise(mmap.MADV_REMOVE)

    def kill(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self.link.close()

    def is_alive(self) -> bool:
        return self._process.poll() is None


def _too_slow() -> BadImage:
    return BadImage(
        "image_too_costly",
        "The image takes too long to decode. Save it as baseline JPEG, or scale it down.",
    )
