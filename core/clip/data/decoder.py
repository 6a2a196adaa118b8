"""A process that only decodes images, and the link to it.

The process has neither torch nor the service's settings. It can't open files or sockets, because its limit on
open files is 0. The memory and CPU time of an image are limited. It ends when its parent closes the link.
"""

import json
import mmap
import os
import pickle
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import warnings
from contextlib import suppress
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import core
from core.clip.data.header import ImageLimits
from core.clip.data.images import BYTES_PER_PIXEL, OpenOptions, begin
from core.clip.errors import BadImage

START_SECONDS = 120
SECONDS = 30.0
"""Maximum time for an image (seconds). CPU time has a lower limit, so this one is for processes that hang."""
RESERVE_BYTES = 64 * 1024 * 1024
"""Address space in addition to the memory for an image (bytes)."""
CPU_SECONDS, CPU_SECONDS_PER_MEGAPIXEL = 1.0, 0.1
"""CPU time of an image (seconds): 5 s for 40 million pixels, where an ordinary file needs at most 1 s."""
MAX_MESSAGE = 65_536
CHANNELS = {"L": (), "RGB": (3,)}
_HIDING = re.compile(b"RIFF|II|MM|.{4}ftyp", re.DOTALL)
"""Starts of files whose decoders (WebP, TIFF, HEIC) report missing memory as damage."""


class MoreRoom(Exception):
    """An image needs more memory than it was given."""

    def __init__(self, room: int) -> None:
        super().__init__(room)
        self.room = room
        """Memory for a next try (bytes)."""


class Decoder:
    """A process that decodes one image at a time."""

    def __init__(self) -> None:
        """Start the process. Raise OSError or EOFError if that is impossible."""
        # A second arena, of a thread, would take the address space of an image.
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
        path = {"PYTHONPATH": str(Path(core.__file__).parents[1]), "PYTHONSAFEPATH": "1"}
        ours, theirs = socket.socketpair()
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(SECONDS), 0))
        self._link = Connection(ours.detach())
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd="/",
                env=kept | threads | path,  # without the service's variables, which may hold secrets
                start_new_session=True,  # Ctrl-C is for the parent
            )
        if not self._link.poll(START_SECONDS):
            raise TimeoutError("it has not started in time")
        self._link.recv_bytes(MAX_MESSAGE)

    @property
    def pid(self) -> int:
        return self._process.pid

    def decode(self, source: bytes, limits: ImageLimits, room: int, how: OpenOptions) -> NDArray[np.uint8]:
        """Return the pixels [H, W, 3], or [H, W] if grey.

        Args:
            room: memory for decoding (bytes).

        Raises:
            BadImage: the file is not an image within the limits, took too long, or crashed the process.
            MoreRoom: the image needs more memory.
        """
        usable = False
        try:
            # Connection.send would leave a BytesIO in the traceback of an error, which Python 3.13 reports.
            self._link.send_bytes(pickle.dumps((limits, room, how)))
            self._link.send_bytes(source)
            if not self._link.poll(SECONDS):
                raise TimeoutError
            answer = json.loads(self._link.recv_bytes(MAX_MESSAGE))
            if "room" in answer or "code" in answer:
                usable = True
                if "room" in answer:
                    raise MoreRoom(int(answer["room"]))
                raise BadImage(str(answer["code"]), str(answer["detail"]))
            width, height = answer["size"]
            if min(width, height) < 1 or width * height > limits.max_pixels:
                raise ValueError(width, height)
            shape = (height, width, *CHANNELS[answer["mode"]])
            pixels = self._link.recv_bytes(int(np.prod(shape)))
            image = np.frombuffer(pixels, np.uint8).reshape(shape).copy()
            usable = True
            return image
        except (BlockingIOError, TimeoutError):
            raise _too_slow() from None
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
            self.kill()  # it has crashed, or was taken over
            if self._process.returncode == -signal.SIGPROF:
                raise _too_slow() from None
            raise BadImage(
                "truncated_image",
                "The file is damaged: reading it has failed badly. Save it again with an image editor.",
            ) from error
        finally:
            if not usable:
                self.kill()

    def kill(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._link.close()

    def is_alive(self) -> bool:
        """Return whether the process can decode. If there is something to read, it has ended."""
        return not self._link.closed and not self._link.poll()


def _too_slow() -> BadImage:
    return BadImage(
        "image_too_costly",
        "The image takes too long to decode. Save it as baseline JPEG, or scale it down.",
    )


def main() -> None:
    link = Connection(int(sys.argv[1]))
    warnings.simplefilter("ignore")  # a file with damaged metadata causes hundreds
    _import_plugins()
    statm = Path("/proc/self/statm")
    usual = int(statm.read_text().split()[0]) * mmap.PAGESIZE + RESERVE_BYTES if statm.exists() else None
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))
    with suppress(EOFError, ConnectionError):  # the parent has ended
        link.send_bytes(b"ready")
        while True:
            limits, room, how = link.recv()
            file = link.recv_bytes()
            if usual is not None:  # macOS ignores this limit
                resource.setrlimit(resource.RLIMIT_AS, (usual + room, resource.RLIM_INFINITY))
            _limit_cpu(0)
            answer, pixels = _decode(file, limits, room, how)
            signal.setitimer(signal.ITIMER_PROF, 0)
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            link.send_bytes(json.dumps(answer).encode())
            if pixels:
                link.send_bytes(pixels)


def _decode(file: bytes, limits: ImageLimits, room: int, how: OpenOptions) -> tuple[dict[str, object], bytes]:
    """Decode one image.

    Args:
        room: memory for decoding (bytes).

    Returns:
        `mode` and `size` of the image; `room`, if it needs more memory; or `code` and `detail` of the error.
        The pixels, if there are any.
    """
    whole = BYTES_PER_PIXEL * limits.max_pixels + 4 * len(file)
    try:
        image = begin(file, limits, **how)
        if image.peak_bytes > room and room < whole:
            return {"room": image.peak_bytes}, b""
        _limit_cpu(image.header.pixels)
        decoded = image.decode()
        return {"mode": decoded.mode, "size": decoded.size}, decoded.tobytes()
    except BadImage as bad:
        if bad.code == "truncated_image" and room < whole and _HIDING.match(file):
            return {"room": whole}, b""
        refused = bad
    except MemoryError:
        if room < whole:
            return {"room": whole}, b""
        refused = BadImage(
            "image_too_costly",
            "The image takes too much memory. Save it as baseline JPEG, or scale it down.",
        )
    return {"code": refused.code, "detail": refused.detail}, b""


def _limit_cpu(pixels: int) -> None:
    # SIGPROF ends the process. RLIMIT_CPU counts whole seconds.
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS + CPU_SECONDS_PER_MEGAPIXEL * pixels / 1e6)


def _import_plugins() -> None:
    """Import everything that decoding imports on first use, while files can still be opened."""
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF", "BMP"):
        file = BytesIO()
        exif = Image.Exif()
        exif[274] = 3
        Image.new("RGB", (8, 8)).save(file, kind, **({"exif": exif} if kind != "BMP" else {}))
        begin(file.getvalue(), shortest_side=4).decode()


if __name__ == "__main__":
    main()
