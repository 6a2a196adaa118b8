"""A process that only decodes images: `python -m core.clip.data.decoder SOCKET MEMORY PARENT`, on Linux.

It has no torch, no settings, no key and no database. After its imports it gives up every right that decoding
does not need, so that a fault in an image library can't do more than damage this process:

- It can open neither files nor sockets, because its limit on open files is 0.
- It can start no process. It never gets more rights (no_new_privs), and is not root.
- Memory and CPU time of an image are limited.
- It ends with the API process.

SOCKET carries JSON, one message per packet. MEMORY is shared: the file of the image, later its pixels.
PARENT is the id of the API process.
"""

import ctypes
import json
import mmap
import os
import resource
import signal
import socket
import sys
import time
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from core.clip.data.images import ImageLimits, read_header
from core.clip.errors import BadImage

INPUT_BYTES = 512 * 1024 * 1024
"""Offset of the pixels in the shared memory, and so the maximum size of a file."""
MEMORY_BYTES = 2 * INPUT_BYTES
"""Size of the shared memory. Only pages that are used take memory."""
MAX_MESSAGE = 65_536
PEAK_BYTES_PER_PIXEL = 20
"""At most; core.clip.data.images bounds it per image."""
RESERVE_BYTES = 128 * 1024 * 1024
NOBODY = 65_534
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38


def main() -> None:
    descriptors, parent = [int(text) for text in sys.argv[1:3]], int(sys.argv[3])
    link, memory = socket.socket(fileno=descriptors[0]), mmap.mmap(descriptors[1], MEMORY_BYTES)
    _import_plugins()
    usual = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    give_up_rights(parent)
    with suppress(ConnectionError):  # the service has ended
        link.send(b"{}")  # ready
        while message := link.recv(MAX_MESSAGE):
            link.send(json.dumps(_decode(json.loads(message), link, memoryview(memory), usual)).encode())


def _decode(asked: dict[str, Any], link: socket.socket, memory: memoryview, usual: int) -> dict[str, Any]:
    """Decode one image into the memory. Return its description, or the error."""
    started = time.process_time()
    limits = ImageLimits(asked["max_bytes"], asked["max_pixels"])
    room = usual + PEAK_BYTES_PER_PIXEL * limits.max_pixels + 4 * asked["bytes"] + RESERVE_BYTES
    _limit_memory(room)
    resource.setrlimit(resource.RLIMIT_CPU, (int(started + asked["seconds"]) + 1, resource.RLIM_INFINITY))
    try:
        header = read_header(
            bytes(memory[: asked["bytes"]]), limits, shortest_side=asked["shortest_side"], grey=asked["grey"]
        )
        # libwebp reserves more than twice the address space that the tables of a lossless file use.
        _limit_memory(max(room, usual + 4 * header.peak_bytes + RESERVE_BYTES))
        if header.peak_bytes > asked["small_bytes"]:
            link.send(json.dumps({"peak_bytes": header.peak_bytes}).encode())
            if not json.loads(link.recv(MAX_MESSAGE))["go_on"]:
                return {}
        image = header.decode()
        pixels = image.tobytes()
        memory[INPUT_BYTES : INPUT_BYTES + len(pixels)] = pixels
    except BadImage as bad:
        refused = bad
    except MemoryError:
        refused = BadImage(
            "image_too_costly",
            "The image takes too much memory. Save it as baseline JPEG, or scale it down.",
        )
    else:
        return {"mode": image.mode, "size": image.size, "seconds": time.process_time() - started}
    return {"code": refused.code, "detail": refused.detail}


def _limit_memory(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))


def _import_plugins() -> None:
    """Import all that decoding imports at its first use, while files can still be opened."""
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        file = BytesIO()
        Image.new("RGB", (8, 8)).save(file, kind)
        read_header(file.getvalue(), shortest_side=4).decode()


def give_up_rights(parent: int) -> None:
    # Root could raise the limits again. Root that may not become another user (in a user namespace, or in a
    # container without capabilities) may not raise limits either.
    with suppress(OSError):
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))
    with suppress(ValueError):  # the limits can't be raised again
        resource.setrlimit(resource.RLIMIT_NOFILE, (1, 1))
        os._exit(1)


if __name__ == "__main__":
    main()
