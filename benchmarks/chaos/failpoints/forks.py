"""Fast start of trainers: `python forks.py SOCKET` imports once, and forks for each trainer.

Two hundred trainings of a few milliseconds would otherwise import torch two hundred times. The worker still
starts a real process. That process passes its arguments and standard streams to a fork of this one, and exits
with the same status. If it is killed, the fork is killed too. The file `SOCKET.PID` has the id of the fork.
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
    """Run as the worker's child, and delegate all work to a fork."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        message = json.dumps(
            {
                "argv": sys.orig_argv[3:],
                "environment": dict(os.environ),
                "folder": str(Path.cwd()),
                "note": f"{path}.{os.getpid()}",
            }
        )
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", STREAMS))
        connection.sendmsg([message.encode() + b"\n"], [rights])
        for stream in STREAMS[:2]:
            os.close(stream)  # only the fork keeps them, so that their end is seen
        reply = connection.recv(64)
    status = int(reply or b"1")
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
            if sys.stdin in ready:  # end of file: the parent has ended
                return
            connection, _ = server.accept()
            if os.fork() == 0:
                _follow(connection)
            connection.close()


def _follow(connection: socket.socket) -> None:
    """Fork a trainer, and report its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    room = socket.CMSG_LEN(len(STREAMS) * array.array("i").itemsize)
    message, rights, _, _ = connection.recvmsg(1 << 20, room)
    while not message.endswith(b"\n"):
        message += connection.recv(1 << 20)
    streams = array.array("i", rights[0][2])
    request = json.loads(message)
    trainer = os.fork()
    if trainer == 0:
        _train(connection, list(streams), request)
    Path(request["note"]).write_text(str(trainer))
    for stream in streams:
        os.close(stream)
    _, status = os.waitpid(trainer, 0)
    Path(request["note"]).unlink()
    with suppress(OSError):  # the recipient was killed
        connection.sendall(str(status).encode())
    os._exit(0)


def _train(connection: socket.socket, streams: list[int], request: dict[str, Any]) -> None:
    # The end of the worker's child closes the connection. The kernel then kills this process, whatever Python
    # is doing.
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(connection, fcntl.F_SETFL, os.O_ASYNC)
    for stream, ours in zip(streams, STREAMS, strict=True):
        os.dup2(stream, ours)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = ["worker.trainer", *request["argv"]]
    try:
        runpy.run_module("worker.trainer", run_name="__main__")
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))
    main(sys.argv[1])
