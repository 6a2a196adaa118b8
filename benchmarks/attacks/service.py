"""Checkouts of the project, a fresh service process for each attack, and another client beside it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.api import crafted as images

START_SECONDS = 300
PACE_SECONDS = 0.1


@dataclass(frozen=True)
class Tree:
    """A checkout and the folder of its services. `keys` are those of the attacker and of another owner."""

    python: str
    folder: Path
    cache: Path
    keys: tuple[str, str]

    def run(
        self, *words: str, environment: Mapping[str, str], data: Path, group: Path | None = None
    ) -> "subprocess.Popen[bytes]":
        """Start the checkout's `clipcite` with these arguments, in a new session and this control group."""

        def join() -> None:
            if group is not None:
                (group / "cgroup.procs").write_text(str(os.getpid()))

        settings = {"CLIPCITE_DATA": str(data), "CLIPCITE_CACHE": str(self.cache), "PYTHONSAFEPATH": "1"}
        return subprocess.Popen(
            [self.python, "-m", "clipcite.cli.main", *words],
            env={**os.environ, **settings, **environment},
            stdout=subprocess.PIPE if words[0] == "keys" else None,
            stderr=(self.folder / "log").open("ab"),
            start_new_session=True,
            preexec_fn=join,
        )


def prepare(checkout: Path | None, folder: Path, cache: Path) -> Tree:
    """Migrate a database and create the keys, once per checkout; None is this checkout.

    Raises:
        SystemExit: the checkout has no environment, or the migration failed.
    """
    python = sys.executable if checkout is None else str(checkout / ".venv" / "bin" / "python")
    if shutil.which(python) is None:
        raise SystemExit(f"There is no {python}. Install the checkout with: make -C {checkout} install")
    folder.mkdir(parents=True)
    tree = Tree(python, folder, cache, ("", ""))
    data = folder / "empty"
    if tree.run("db", "upgrade", environment={}, data=data).wait(START_SECONDS):
        raise SystemExit(f"The database cannot be created: {(folder / 'log').read_text()[-2000:]}")
    made = []
    for owner in ("attacker", "other"):
        words = ("keys", "create", "--owner", owner, "--scope", "classify", "--scope", "adapt", "--json")
        output, _ = tree.run(*words, environment={}, data=data).communicate(timeout=START_SECONDS)
        made.append(str(json.loads(output)["key"]))
    return Tree(python, folder, cache, (made[0], made[1]))


@dataclass
class Target:
    """A running API under attack, with counts of its responses."""

    tree: Tree
    url: str
    process: psutil.Process
    data: Path
    environment: Mapping[str, str]
    small: bool
    statuses: dict[int, int] = field(default_factory=dict)
    """Number of responses by status; 0 is a connection closed without a response."""
    largest_answer: int = 0
    note: str = ""
    broken: list[str] = field(default_factory=list)
    http: httpx.Client = field(init=False)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        # One connection per request: a refused request closes its connection, and threads that share a pool
        # of idle ones sometimes close a connection in use.
        headers = {"Authorization": f"Bearer {self.tree.keys[0]}", "Connection": "close"}
        limits = httpx.Limits(max_connections=None)
        self.http = httpx.Client(
            base_url=self.url, timeout=600, trust_env=False, limits=limits, headers=headers
        )

    def send(self, method: str, path: str, **content: Any) -> httpx.Response | None:
        """Send a request, count its status and return the response.

        Return None if the service closed the connection during the upload, which may lose its response.
        """
        answer = None
        try:
            answer = self.http.request(method, path, **content)
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
            if not self.process.is_running() or self.process.status() == psutil.STATUS_ZOMBIE:
                raise
        status = 0 if answer is None else answer.status_code
        with self.lock:
            self.statuses[status] = self.statuses.get(status, 0) + 1
            self.largest_answer = max(self.largest_answer, 0 if answer is None else len(answer.content))
        return answer

    def classify(self, *images: bytes) -> httpx.Response | None:
        files = [("images", (f"{i}", image)) for i, image in enumerate(images)]
        return self.send("POST", "/classify", data={"class_names": ["red", "green"]}, files=files)

    def dry_run(self, *images: bytes) -> httpx.Response | None:
        """Send a dry run with these images in two classes."""
        files = [("images", (f"{i}", image)) for i, image in enumerate(images)]
        labels = [("red", "green")[i % 2] for i in range(len(images))]
        return self.send("POST", "/adapt?dry_run=true", data={"labels": labels}, files=files)

    def dry_run_of(self, archive: bytes) -> httpx.Response | None:
        return self.send("POST", "/adapt?dry_run=true", files={"archive": ("a.tar.gz", archive)})

    def forget(self) -> None:
        """Reset the counts."""
        self.statuses, self.largest_answer = {}, 0


def run_concurrently(attacks: Sequence[Callable[[], object]]) -> None:
    """Run each in its own thread, wait for all, and raise the first error."""
    failures: list[BaseException] = []

    def run(attack: Callable[[], object]) -> None:
        try:
            attack()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(attack,), daemon=True) for attack in attacks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@contextmanager
def memory_group(size: int | None) -> Iterator[Path | None]:
    """Make a control group whose processes share this much memory (bytes). Only root may."""
    if size is None:
        yield None
        return
    old = Path("/sys/fs/cgroup/memory")
    parent, limit = (old, "memory.limit_in_bytes") if old.is_dir() else (old.parent, "memory.max")
    group = parent / f"attacks-{os.getpid()}"
    group.mkdir()
    try:
        (group / limit).write_text(str(size))
        yield group
    finally:
        while (group / "cgroup.procs").read_text():  # killed processes need a moment to end
            time.sleep(0.1)
        group.rmdir()


@contextmanager
def running(
    tree: Tree, environment: Mapping[str, str], *, small: bool, memory: int | None = None
) -> Iterator[Target]:
    """Run a fresh API process on a copy of the empty database, and kill it at the end."""
    with memory_group(memory) as group:
        yield from _running(tree, environment, small, group)


def _running(tree: Tree, environment: Mapping[str, str], small: bool, group: Path | None) -> Iterator[Target]:
    data = tree.folder / "data"
    shutil.rmtree(data, ignore_errors=True)
    shutil.copytree(tree.folder / "empty", data)
    (data / "spool").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {"TMPDIR": str(data / "spool"), **environment}
    process = tree.run("api", "--port", str(port), environment=environment, data=data, group=group)
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + START_SECONDS
        while not _is_ready(url):
            if process.poll() is not None or time.monotonic() > until:
                log = (tree.folder / "log").read_text(errors="replace")
                raise SystemExit(f"The service did not start: {log[-2000:]}")
            time.sleep(0.1)
        target = Target(tree, url, psutil.Process(process.pid), data, environment, small)
        with target.http:
            yield target
    finally:
        kill(process)
        shutil.rmtree(data, ignore_errors=True)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill the process and its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=10, trust_env=False).is_success
    except httpx.HTTPError:
        return False


class OtherClient:
    """Client of another owner that lists models and classifies, in turn. Beside it, one calls /healthz."""

    def __init__(self, url: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=600, trust_env=False)
        self._stop = threading.Event()
        self._began: float | None = None
        self._waits: list[float] = []
        self._health = 0.0
        self._refused = 0

    def send(self) -> float:
        """Send a request. Return the seconds until its answer."""
        self._began = time.monotonic()
        if len(self._waits) % 2:
            answer = self._http.get("/models")
        else:
            files = {"images": ("a.jpg", images.jpeg())}
            answer = self._http.post("/classify", data={"class_names": ["red", "green"]}, files=files)
        self._waits.append(time.monotonic() - self._began)
        self._began = None
        self._refused += answer.status_code != 200
        return self._waits[-1]

    def start(self) -> None:
        """Send requests until `stop`."""
        self._waits, self._health, self._refused = [], 0.0, 0
        for work in (self._go_on, self._call_health):
            threading.Thread(target=work, daemon=True).start()

    def _go_on(self) -> None:
        with suppress(httpx.HTTPError):  # the service may be killed
            while not self._stop.is_set():
                self.send()
                self._stop.wait(PACE_SECONDS)

    def _call_health(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            with suppress(httpx.HTTPError):
                self._http.get("/healthz")
            self._health = max(self._health, time.monotonic() - began)
            self._stop.wait(PACE_SECONDS)

    def stop(self) -> tuple[list[float], float, int]:
        """Stop. Return all waits, the longest of /healthz, and the number of answers other than 200.

        A pending request counts with its time so far.
        """
        self._stop.set()
        began = self._began
        waits = [*self._waits, *([] if began is None else [time.monotonic() - began])]
        return waits, self._health, self._refused


class OtherProcess(BaseManager):
    """Runs another client in a process of its own, so that the attacker's threads don't delay it."""


OtherProcess.register("OtherClient", OtherClient)
