"""Processes of the service as on several machines, each restarted when it dies."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from core.parent_watch import CHILD
from tests.servers import free_port
from tests.service.running import is_ready, wait_for

RESTART_SECONDS = 0.5
TRAINER = "worker.trainer"
FORKS = "PYTHON_CHAOS_FORKS"
"""Variable with the socket of forks.py. A trainer inherits variables that begin with PYTHON."""


class Member:
    """One process of the cluster, in its own process group."""

    def __init__(self, name: str, environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.module = {"api": "api", "worker": "worker", "dispatcher": "worker.dispatcher"}[
            name.partition("-")[0]
        ]
        self.starts = 0
        self.environment = dict(environment)
        self._log = log

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module],
                env={**self.environment, CHILD: "1"},
                stdin=subprocess.PIPE,  # its end stops the process, so that nothing outlives the benchmark
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.starts += 1

    def kill(self) -> None:
        """Kill the whole process group with SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def trainers(self) -> list[psutil.Process]:
        """Return the trainers of a worker and their forks (failpoints/forks.py), including the standby."""
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
    """All processes of the service. Members may be killed in `with cluster.running():`."""

    def __init__(self, names: Sequence[str], environment: Mapping[str, str], logs: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        settings = {**os.environ, **environment, "CLIPCITE_PORT": str(port)}
        logs.mkdir(parents=True, exist_ok=True)
        self.members = {name: Member(name, settings, logs / f"{name}.log") for name in names}

    @property
    def workers(self) -> list[Member]:
        return [member for member in self.members.values() if member.module == "worker"]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self._over = threading.Event()
        for member in self.members.values():
            member.start()
        supervisor = threading.Thread(target=self._supervise, name="supervisor")
        supervisor.start()
        try:
            wait_for(lambda: is_ready(self.url), explain=lambda: "The reason is in the service's logs.")
            yield
        finally:
            self._over.set()
            supervisor.join()
            for member in self.members.values():
                member.kill()

    def _supervise(self) -> None:
        while not self._over.wait(RESTART_SECONDS):
            for member in self.members.values():
                if member.process.poll() is not None:
                    member.start()
