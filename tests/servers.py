"""Real servers for the tests and for `benchmarks.chaos`, from the binaries found on this machine.

Each server runs in its own folder, listens on loopback or on a socket in that folder, and is stopped at the
end. As root the servers run as `nobody`, because PostgreSQL refuses root.
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
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import redis

from tests.binaries import (
    USER,
    ServerMissing,
    postgres_binaries,
    redis_binary,
    runs_as_user,
    s3_binary,
)

BUCKET, ACCESS_KEY, SECRET_KEY, REGION = "clipcite", "key", "a secret of sufficient length", "us-east-1"
"""The bucket of `durable_s3_server`, and the access to it."""


class Server:
    """Server process that can be killed, frozen and restarted in the same place."""

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
        """Start the server and wait until it answers.

        Call this from a thread that lives on: the server ends with its thread.
        """
        with (self._folder / "log").open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                user=self._user,
                cwd=self._folder,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C goes to the tests, which then stop the server.
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
        """Freeze the server and its children: connections stay open, and nothing is answered."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):  # A child may end at any time.
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


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def postgres() -> Iterator[str]:
    """Yield the URL of a PostgreSQL that allows creating databases."""
    if given := os.environ.get("CLIPCITE_TEST_DATABASE_URL"):
        yield given.replace("postgresql://", "postgresql+psycopg://", 1)
        return
    with postgres_server() as server:
        yield server.url


@contextmanager
def postgres_server() -> Iterator[Server]:
    """Yield a private PostgreSQL, which a test may kill or freeze."""
    binaries = postgres_binaries()
    with _folder() as folder:
        if USER and not runs_as_user(binaries / "postgres"):
            # The binaries may lie in a home folder. Copy the whole tree: they look for ../lib and ../share,
            # and a wheel's binaries look for the folder of libraries beside their package.
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
        # fsync is off: these tests kill the server's process, never the machine.
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
    """Yield the URL of a Redis or Valkey without persistence."""
    if given := os.environ.get("CLIPCITE_TEST_REDIS_URL"):
        yield given
        return
    with redis_server() as server:
        yield server.url


@contextmanager
def redis_server() -> Iterator[Server]:
    """Yield a private Redis or Valkey, which a test may kill or freeze."""
    binary, port = redis_binary(), free_port()
    with _folder() as folder:
        if USER and not runs_as_user(binary):
            binary = Path(shutil.copy(binary, folder / "server"))
            binary.chmod(0o755)
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
    """Yield the URL of an S3 server that keeps everything in memory."""
    port = free_port()
    with (
        _folder() as folder,
        _running(
            Server(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                folder,
                url=f"http://127.0.0.1:{port}",
                stop=signal.SIGTERM,
                connect=lambda: socket.create_connection(("127.0.0.1", port)).close(),
                user=None,  # Other users may not be able to read this Python's folder.
            )
        ) as server,
    ):
        yield server.url


def bucket_access(
    endpoint: str, region: str = "us-east-1", access_key: str = "key", secret_key: str = "secret"
) -> dict[str, str]:
    """Return the variables of AWS. `s3_server` accepts any key."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": region,
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
    }


@contextmanager
def durable_s3_server() -> Iterator[Server]:
    """Yield a private S3 server, which may be killed or frozen: it syncs each object to its folder.

    If it is killed while it writes an object, it lists the temporary file as another object. A bucket has no
    such object, so the file is removed before each start.
    """
    binary, port = s3_binary(), free_port()
    with _folder() as folder:
        (folder / "data" / BUCKET).mkdir(parents=True)
        (folder / "options.toml").write_text(
            f'[[users]]\naccess_key = "{ACCESS_KEY}"\nsecret_key = "{SECRET_KEY}"\n', encoding="utf-8"
        )
        clean = ["sh", "-c", 'find data -name ".tmp.*" -delete; exec "$@"', "sh"]
        options: list[str | Path] = ["--options", folder / "options.toml", "--data-dir", folder / "data"]
        address = ["--host", "127.0.0.1", "--port", str(port), "--region", REGION]
        with _running(
            Server(
                [*clean, binary, "serve", *options, *address, "--no-access-log"],
                folder,
                url=f"http://127.0.0.1:{port}",
                stop=signal.SIGTERM,
                connect=lambda: socket.create_connection(("127.0.0.1", port)).close(),
                user=None,  # Other users may not be able to read the folder of its Python.
            )
        ) as server:
            yield server


@contextmanager
def _folder() -> Iterator[Path]:
    # Short, because the path of a Unix socket is limited to about 100 characters.
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
    """End this process with its parent, so that killed tests leave no server behind. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, stop)  # PR_SET_PDEATHSIG


def _wait(connect: Callable[[], object], check: Callable[[], None]) -> None:
    deadline = time.monotonic() + 600
    while True:
        check()
        try:
            connect()
            return
        except (psycopg.OperationalError, redis.ConnectionError, ConnectionRefusedError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
