"""The broker of `clipcite serve`: Valkey on a socket in the data folder.

It does not use the disk, because its messages are only wake-ups (`core.store.jobs.queue`).
"""

import os
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from core.errors import ExpectedError
from core.parent_watch import die_with
from core.store.jobs.queue import valkey_program

MAX_PATH = 103
"""Maximum length of a socket's path on Linux and macOS (bytes)."""
START_SECONDS = 30


def start(path: Path, output: int = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
    """Start Valkey on the socket `path`. It ends with this process, on Linux even after `kill -9`."""
    options = {"port": 0, "unixsocket": path, "unixsocketperm": 700, "save": "", "appendonly": "no"}
    parent = os.getpid()
    return subprocess.Popen(
        [valkey_program(), *(str(text) for name, value in options.items() for text in (f"--{name}", value))],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: die_with(parent),
    )


def start_first(path: Path) -> "subprocess.Popen[bytes]":
    """Stop a Valkey that an earlier `serve` left, start a new one, and wait until it responds.

    Raises:
        ExpectedError: Valkey does not start.
    """
    if len(os.fsencode(path)) > MAX_PATH:
        raise ExpectedError(
            f"The path of the socket {path} is longer than {MAX_PATH} bytes. Choose a shorter --data; a "
            "symbolic link to the folder will do."
        )
    with suppress(OSError), _connected(path) as left:
        left.sendall(b"SHUTDOWN NOSAVE\r\n")
        left.recv(1)  # returns when the old Valkey has ended
    process = start(path, subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as output:
        until = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < until:
            with suppress(OSError), _connected(path):
                return process
            time.sleep(0.02)
        process.kill()
        said = output.read().decode(errors="replace").strip().splitlines() or ["it gave no reason"]
    process.wait()
    raise ExpectedError(
        f"Valkey, the broker of the jobs, does not start on {path}: {said[-1]}. Choose another --data, or "
        "set CLIPCITE_REDIS_URL to the URL of a Redis or Valkey server."
    )


def _connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(START_SECONDS)
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection
