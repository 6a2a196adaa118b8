"""The service as several machines would run it: its processes, each started again when it dies."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import psutil

RESTART_SECONDS = 0.5
READY_SECONDS = 600
TRAINER = "worker.trainer"
FORKS = "PYTHON_CHAOS_FORKS"
"""The variable that names the socket of forks.py; a trainer is told whatever begins with PYTHON."""


class Member:
    """One process of the cluster, in a group of its own."""

    def __init__(self, name: str, environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.module = {"api": "api", "worker": "worker", "dispatcher": "worker.dispatcher"}[
            name.partition("-")[0]
        ]
        self.wanted = True
        """Whether it is started again when it has ended."""
        self.starts = 0
        self.environment = dict(environment)
        self._log = log

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module],
                env={**self.environment, "CLIPCITE_EXIT_WITH_PARENT": "1"},
                stdin=subprocess.PIPE,  # the leash: nothing outlives the benchmark
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.starts += 1

    def kill(self) -> None:
        """The whole process group, with -9."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def hold(self) -> None:
        """Kill it, and keep it from being started again."""
        self.wanted = False
        self.kill()

    def release(self) -> None:
        """It is started again, as if it had died."""
        self.wanted = True

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def trainers(self) -> list[psutil.Process]:
        """Those of a worker and their forks (failpoints/forks.py), the one that stands by among them."""
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    if TRAINER in child.cmdline():
                        found.append(child)
                with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError, ValueError):
                    note = Path(f"{self.environment[FORKS]}.{child.pid}")
                    found.append(psutil.Process(int(note.read_text())))
        return found


class Cluster:
    """`with cluster.running():`; then members may be killed and come again."""

    def __init__(self, names: Sequence[str], environment: Mapping[str, str], logs: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        given = {**os.environ, **environment, "CLIPCITE_PORT": str(port)}
        logs.mkdir(parents=True, exist_ok=True)
        self.members = {name: Member(name, given, logs / f"{name}.log") for name in names}

    @property
    def workers(self) -> list[Member]:
        return [member for member in self.members.values() if member.module == "worker"]

    @property
    def dispatchers(self) -> list[Member]:
        return [member for member in self.members.values() if member.module == "worker.dispatcher"]

    @property
    def api(self) -> Member:
        return self.members["api"]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self._over = threading.Event()
        for member in self.members.values():
            member.start()
        supervisor = threading.Thread(target=self._supervise, name="supervisor")
        supervisor.start()
        try:
            self.wait_until_ready()
            yield
        finally:
            self._over.set()
            supervisor.join()
            for member in self.members.values():
                member.kill()

    def wait_until_ready(self) -> None:
        until = time.monotonic() + READY_SECONDS
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/readyz", timeout=10, trust_env=False).is_success:
                    return
            if time.monotonic() > until:
                raise TimeoutError(f"The service was not ready within {READY_SECONDS} s; see its logs.")
            time.sleep(0.2)

    def _supervise(self) -> None:
        while not self._over.wait(RESTART_SECONDS):
            for member in self.members.values():
                if member.wanted and member.process.poll() is not None:
                    member.start()
