"""Trainers without the seconds that their imports take: `python forks.py SOCKET` imports once, and forks.

Two hundred trainings of some milliseconds would otherwise be two hundred imports of torch. The process that
the worker starts is as real as ever: it hands its arguments and its standard streams to a fork of this one,
ends as that ends, and takes it along when it is killed. Which one that is stands in the file `SOCKET.PID`.
"""

import array
import fcntl
import json
import os
import runpy
import select
import signal
import socket
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

STREAMS = (0, 1, 2)


def stand_in(path: str) -> None:
    """The worker's child: all of its work is done by a fork."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        said = json.dumps(
            {
                "argv": sys.orig_argv[3:],
                "environment": dict(os.environ),
                "folder": str(Path.cwd()),
                "note": f"{path}.{os.getpid()}",
            }
        )
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", STREAMS))
        connection.sendmsg([said.encode() + b"\n"], [rights])
        for stream in STREAMS[:2]:
            os.close(stream)  # the fork's alone, so that their ends are seen
        answer = connection.recv(64)
    status = int(answer or b"1")
    if os.WIFSIGNALED(status):
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


def main(path: str) -> None:
    for module in import_module("worker.trainer.__main__").IMPORTS[:2]:
        import_module(module)
    del sys.modules["worker.trainer.__main__"]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(16)
        while True:
            ready, _, _ = select.select([server, sys.stdin], [], [])
            if sys.stdin in ready:  # the leash: nothing is ever written to it
                return
            connection, _ = server.accept()
            if os.fork() == 0:
                _follow(connection)
            connection.close()


def _follow(connection: socket.socket) -> None:
    """One for each trainer: forks it, and tells how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    room = socket.CMSG_LEN(len(STREAMS) * array.array("i").itemsize)
    said, rights, _, _ = connection.recvmsg(1 << 20, room)
    while not said.endswith(b"\n"):
        said += connection.recv(1 << 20)
    streams = array.array("i", rights[0][2])
    given = json.loads(said)
    trainer = os.fork()
    if trainer == 0:
        _train(connection, list(streams), given)
    Path(given["note"]).write_text(str(trainer))
    for stream in streams:
        os.close(stream)
    _, status = os.waitpid(trainer, 0)
    Path(given["note"]).unlink()
    with suppress(OSError):  # whoever would hear it was killed
        connection.sendall(str(status).encode())
    os._exit(0)


def _train(connection: socket.socket, streams: list[int], given: dict[str, Any]) -> None:
    # The end of the worker's child closes the connection: that is a signal to us, which the kernel carries
    # out whatever Python is doing.
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(connection, fcntl.F_SETFL, os.O_ASYNC)
    for stream, ours in zip(streams, STREAMS, strict=True):
        os.dup2(stream, ours)
        os.close(stream)
    os.environ.clear()
    os.environ.update(given["environment"])
    os.chdir(given["folder"])
    sys.argv = ["worker.trainer", *given["argv"]]
    try:
        runpy.run_module("worker.trainer", run_name="__main__")
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))
    main(sys.argv[1])
