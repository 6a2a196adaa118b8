"""A process that only decodes images: `python -m core.clip.data.decoder SOCKET MEMORY PARENT`, on Linux.

It does not load torch, settings, keys or the database. After its imports it gives up every right that
decoding does not need, so that a fault in an image library can damage only this process:

- It can't open files or sockets, because its limit on open files is 0.
- It can start threads but not processes. It can't gain rights (no_new_privs), and is not root.
- Memory and CPU time of an image are limited.
- It ends with the process that started it.

SOCKET carries JSON, one message per packet. MEMORY is shared: the file of the image, later its pixels.
PARENT is the id of the process that started it.
"""

import ctypes
import json
import mmap
import os
import platform
import re
import resource
import signal
import socket
import struct
import sys
import warnings
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from core.clip.data.header import ImageLimits
from core.clip.data.images import BYTES_PER_PIXEL, Fit, How, begin
from core.clip.errors import BadImage

INPUT_BYTES = 512 * 1024 * 1024
"""Offset of the pixels in the shared memory, and so the maximum size of a file."""
MEMORY_BYTES = 2 * INPUT_BYTES
"""Size of the shared memory. Only used pages take memory."""
MAX_MESSAGE = 65_536
RESERVE_BYTES = 64 * 1024 * 1024
"""Address space in addition to the memory for an image (bytes)."""
CPU_SECONDS, CPU_SECONDS_PER_MEGAPIXEL = 1.0, 0.1
"""CPU time of an image (seconds): 5 s for 40 million pixels, where an ordinary file needs at most 1 s."""
NOBODY = 65_534
_HIDING = re.compile(b"RIFF|II|MM|.{4}ftyp", re.DOTALL)
"""Starts of files whose decoders (WebP, TIFF, HEIC) report missing memory as damage."""
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_CALLS = {"x86_64": (0xC000003E, 56, (57, 58, 59, 322)), "aarch64": (0xC00000B7, 220, (221, 281))}
"""Architecture, `clone`, and the calls that start a process or a program, in the numbers of the kernel."""
_CLONE3, _CLONE_THREAD, _OTHER_CALLS = 435, 0x10000, 0x40000000


def main() -> None:
    descriptors, parent = [int(text) for text in sys.argv[1:3]], int(sys.argv[3])
    link, memory = socket.socket(fileno=descriptors[0]), mmap.mmap(descriptors[1], MEMORY_BYTES)
    warnings.simplefilter("ignore")  # a file with damaged metadata causes hundreds
    _import_plugins()
    usual = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE + RESERVE_BYTES
    give_up_rights(parent)
    with suppress(ConnectionError):  # the parent has ended
        link.send(b"{}")  # ready
        while message := link.recv(MAX_MESSAGE):
            link.send(json.dumps(_decode(json.loads(message), memoryview(memory), usual)).encode())


def _decode(asked: dict[str, Any], memory: memoryview, usual: int) -> dict[str, Any]:
    """Decode one image into the shared memory.

    Args:
        asked: `bytes`, `limits`, `room` (bytes of memory) and the arguments of `open_image`.
        usual: address space of this process before it decodes.

    Returns:
        `mode` and `size` of the image; `room`, if it needs more memory; or `code` and `detail` of the error.
    """
    limits, room = ImageLimits(*asked["limits"]), asked["room"]
    whole = BYTES_PER_PIXEL * limits.max_pixels + 4 * asked["bytes"]
    resource.setrlimit(resource.RLIMIT_AS, (usual + room, resource.RLIM_INFINITY))
    _limit_cpu(0)
    file = bytes(memory[: asked["bytes"]])
    how = How(shortest_side=asked.get("shortest_side"), grey=asked.get("grey", False))
    how["fit"] = asked["fit"] and Fit(*asked["fit"])
    try:
        image = begin(file, limits, **how)
        if image.peak_bytes > room and room < whole:
            return {"room": image.peak_bytes}
        _limit_cpu(image.header.pixels)
        decoded = image.decode()
        pixels = decoded.tobytes()
        memory[INPUT_BYTES : INPUT_BYTES + len(pixels)] = pixels
    except BadImage as bad:
        if bad.code == "truncated_image" and room < whole and _HIDING.match(file):
            return {"room": whole}
        refused = bad
    except MemoryError:
        if room < whole:
            return {"room": whole}
        refused = BadImage(
            "image_too_costly",
            "The image takes too much memory. Save it as baseline JPEG, or scale it down.",
        )
    else:
        return {"mode": decoded.mode, "size": decoded.size}
    return {"code": refused.code, "detail": refused.detail}


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


def _forbid_processes(prctl: Any) -> None:
    """Filter system calls (seccomp), so that threads can start but processes can't. libheif needs threads.

    RLIMIT_NPROC would not do: it also counts threads, of all processes of the user.
    """
    architecture, clone, starting = _CALLS.get(platform.machine(), (0, 0, ()))
    load, equal, at_least, any_bit, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    allowed, refused, unknown = 0x7FFF0000, 0x50001, 0x50026  # EPERM; ENOSYS, after which libc uses `clone`
    steps = [(load, 0, 0, 4), (equal, 1, 0, architecture), (answer, 0, 0, refused), (load, 0, 0, 0)]
    for number in starting:
        steps += [(equal, 0, 1, number), (answer, 0, 0, refused)]
    steps += [(at_least, 0, 1, _OTHER_CALLS), (answer, 0, 0, refused)]
    steps += [(equal, 0, 1, _CLONE3), (answer, 0, 0, unknown), (equal, 0, 3, clone), (load, 0, 0, 16)]
    steps += [(any_bit, 1, 0, _CLONE_THREAD), (answer, 0, 0, refused), (answer, 0, 0, allowed)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(code)))
    if not starting or prctl(_PR_SET_SECCOMP, 2, program, 0, 0):
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # also forbids threads, so HEIC can't be read


def give_up_rights(parent: int) -> None:
    # Root could raise the limits again. If root can't become another user (in a user namespace, or in a
    # container without capabilities), it can't raise limits either.
    with suppress(OSError):
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _forbid_processes(prctl)
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # the parent has already ended
        os._exit(1)
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))
    with suppress(ValueError):  # the limits can't be raised again
        resource.setrlimit(resource.RLIMIT_NOFILE, (1, 1))
        os._exit(1)


if __name__ == "__main__":
    main()
