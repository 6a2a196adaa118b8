"""Real servers for the tests and for `benchmarks.chaos`, started from whatever binaries this machine has.

Each runs in a folder of its own, listens on loopback or on a socket in that folder, and is stopped
at the end. As root the servers run as `nobody`: PostgreSQL refuses root.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import redis

from tests.binaries import USER, ServerMissing, postgres_binaries, redis_binary, runs_as_user


class Server:
    """A server's process, which may be killed, frozen and started again in the same place."""

    def __init__(
        self,
        command: Sequence[str | Path],
        folder: Path,
        *,
        url: str,
        stop: signal.Signals,
        connect: Callable[[], object],
        user: str | None = USER,
    ) -> None:
        self.url = url
        self._user = user
        self._command = command
        self._folder = folder
        self._stop = stop
        self._connect = connect
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers. Call it in a thread that lives on: the server ends with that."""
        with (self._folder / "log").open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                user=self._user,
                cwd=self._folder,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop the server
                preexec_fn=lambda: _die_with_parent(self._stop),
            )
        _wait(self._connect, self._check)

    def end(self, signum: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(signum)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        self.end(self._stop)

    def freeze(self) -> None:
        """It and its children keep their connections, and answer nothing."""
        for process in self._processes():
            process.suspend()

    def thaw(self) -> None:
        for process in self._processes():
            process.resume()

    def _processes(self) -> list[psutil.Process]:
        assert self._process is not None
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]

    def _check(self) -> None:
        if self._process is None or self._process.poll() is not None:
            log = (self._folder / "log").read_text(errors="replace")
            raise ServerMissing(f"{self._command[0]} ended at once: {log[-2000:]}")


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL in which databases may be created."""
    if given := os.environ.get("CLIPCITE_TEST_DATABASE_URL"):
        yield given.replace("postgresql://", "postgresql+psycopg://", 1)
        return
    with postgres_server() as server:
        yield server.url


@contextmanager
def postgres_server() -> Iterator[Server]:
    """A PostgreSQL of one's own, to be done anything to."""
    binaries = postgres_binaries()
    with _folder() as folder:
        if USER and not runs_as_user(binaries / "postgres"):
            # In a home folder, say. The whole tree: the binaries look for ../lib and ../share, and
            # those of a wheel for the folder of libraries beside their package.
            package = binaries.parent.parent
            install = folder / package.name / binaries.parent.name
            shutil.copytree(binaries.parent, install, symlinks=True)
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.exists():
                shutil.copytree(libraries, folder / libraries.name)
            binaries = install / "bin"
        data = folder / "data"
        made = subprocess.run(
            [
                binaries / "initdb",
                "-D",
                data,
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "-N",
            ],
            user=USER,
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if made.returncode:
            raise ServerMissing(f"initdb failed: {made.stderr.strip()}")
        # Durability is not what these tests test; a killed server is, and that needs no fsync.
        options = ["-c", "fsync=off", "-c", f"unix_socket_directories={folder}", "-c", "listen_addresses="]
        url = f"postgresql+psycopg://postgres@/postgres?host={folder}"
        with _running(
            Server(
                [binaries / "postgres", "-D", data, *options],
                folder,
                url=url,
                stop=signal.SIGINT,
                connect=lambda: psycopg.connect(host=str(folder), user="postgres", dbname="postgres").close(),
            )
        ) as server:
            yield server


@contextmanager
def redis_url() -> Iterator[str]:
    """The URL of a Redis or Valkey that keeps nothing on disk."""
    if given := os.environ.get("CLIPCITE_TEST_REDIS_URL"):
        yield given
        return
    with redis_server() as server:
        yield server.url


@contextmanager
def redis_server() -> Iterator[Server]:
    """A Redis or Valkey of one's own, to be done anything to."""
    binary = redis_binary()
    with _folder() as folder, socket.create_server(("127.0.0.1", 0)) as probe:
        if USER and not runs_as_user(binary):
            binary = Path(shutil.copy(binary, folder / "server"))
            binary.chmod(0o755)
        port = probe.getsockname()[1]
        probe.close()
        command: list[str | Path] = [
            binary,
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        with _running(
            Server(
                command,
                folder,
                url=f"redis://127.0.0.1:{port}/0",
                stop=signal.SIGTERM,
                connect=lambda: redis.Redis(port=port).ping(),
            )
        ) as server:
            yield server


@contextmanager
def s3_server() -> Iterator[str]:
    """The URL of an S3 server that keeps everything in memory."""
    with _folder() as folder, socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
        probe.close()
        with _running(
            Server(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                folder,
                url=f"http://127.0.0.1:{port}",
                stop=signal.SIGTERM,
                connect=lambda: socket.create_connection(("127.0.0.1", port)).close(),
                user=None,  # this Python may lie where nobody else may read
            )
        ) as server:
            yield server.url


@contextmanager
def _folder() -> Iterator[Path]:
    # Short: the path of a Unix socket has room for about 100 characters.
    folder = Path(tempfile.mkdtemp(prefix="cc-", dir="/tmp"))
    try:
        if USER:
            shutil.chown(folder, USER)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _die_with_parent(stop: signal.Signals) -> None:
    """So that killed tests leave no server behind. Linux only; elsewhere it does nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, stop)  # PR_SET_PDEATHSIG


def _wait(connect: Callable[[], object], check: Callable[[], None]) -> None:
    deadline = time.monotonic() + 30
    while True:
        check()
        try:
            connect()
            return
        except (psycopg.OperationalError, redis.ConnectionError, ConnectionRefusedError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
