"""The service as users run it: processes, HTTP, signals."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from PIL import Image

READY_SECONDS = 600
PATIENCE = 600
"""Timeout (seconds). It only guards against hanging; slow but working code must not reach it."""
ROOT = Path(__file__).parents[2]
FAILPOINTS = ROOT / "benchmarks" / "chaos" / "failpoints"


@dataclass
class Service:
    """`clipcite serve` and its output."""

    process: "subprocess.Popen[str]"
    output: list[str] = field(default_factory=list)
    url: str = ""
    key: str | None = None
    """The token, unless the service requires none."""

    @property
    def http(self) -> httpx.Client:
        headers = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=600)

    def child(self, module: str) -> psutil.Process:
        """Return the running `python -m module` below the service."""
        return wait_for(lambda: running_module(self.process.pid, module), seconds=PATIENCE)

    def valkey(self) -> psutil.Process:
        return next(process for process in self.processes() if process.name() == "valkey-server")

    def processes(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(signum)
        self.process.wait(PATIENCE)

    def kill(self) -> None:
        """Kill all processes and wait until they have ended."""
        with contextlib.suppress(psutil.NoSuchProcess):
            everything = self.processes()
            for process in everything:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process.wait()
            wait_for(lambda: not any(map(is_alive, everything)))

    def log(self) -> str:
        return "".join(self.output)


@contextlib.contextmanager
def serve(data: Path, environment: Mapping[str, str], port: int = 0) -> Iterator[Service]:
    """Start the service on the port, or on a free one, wait until it is ready, and kill it at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "clipcite", "serve", "--port", str(port), "--data", str(data)],
        env={**os.environ, "COLUMNS": "200", **environment},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    service = Service(process)
    threading.Thread(target=_listen, args=(service,), daemon=True).start()
    try:
        found = wait_for(
            lambda: re.search(r"Ready: (http://[^/\s]+)(?:/#token=(\S+))?\n", service.log()),
            seconds=READY_SECONDS,
            unless=lambda: process.poll() is not None,
            explain=service.log,
        )
        service.url, service.key = found.groups()
        yield service
    finally:
        service.kill()
        process.wait()


@dataclass(frozen=True)
class Hold:
    """Control that holds all trainings after a given step."""

    file: Path

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment with which the service must start."""
        return {"PYTHON_HOLD": str(self.file), "PYTHONPATH": f"{FAILPOINTS}:{ROOT}"}

    def at(self, step: int) -> None:
        self.file.write_text(str(step))

    def release(self) -> None:
        self.file.unlink(missing_ok=True)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=10, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def wait_for(
    call: Callable[[], Any],
    *,
    seconds: float = PATIENCE,
    unless: Callable[[], bool] = lambda: False,
    explain: Callable[[], str] = str,
) -> Any:
    """Return the first truthy result of the call."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not unless():
        answer = call()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"Not within {seconds} s. {explain()[-3000:]}")


def wait_for_job(
    http: httpx.Client, job_id: str, *, seconds: float = PATIENCE, until: str = ""
) -> dict[str, Any]:
    """Return the job once it has ended or has the status `until`."""

    def finished() -> dict[str, Any] | None:
        job: dict[str, Any] = http.get(f"/jobs/{job_id}").raise_for_status().json()
        done = job["status"] == until or job["status"] in {"succeeded", "failed", "cancelled"}
        return job if done else None

    job: dict[str, Any] = wait_for(
        finished, seconds=seconds, explain=lambda: http.get(f"/jobs/{job_id}").text
    )
    return job


def succeeded(http: httpx.Client, job_id: str, *, attempts: int = 1) -> dict[str, Any]:
    """Return the job once it has succeeded, with this number of attempts."""
    job = wait_for_job(http, job_id)
    assert (job["status"], job["attempts"]) == ("succeeded", attempts), job
    return job


def classified(
    http: httpx.Client, *class_names: str, model: str = "stock", image: bytes | None = None
) -> dict[str, Any]:
    """Return the response for an image, by default a red one."""
    given = {"model": model, "class_names": class_names}
    answer = http.post("/classify", data=given, files={"images": image or plain("red")})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert {p["class_name"] for p in body["results"][0]["predictions"]} == {*class_names}
    return body


def training(http: httpx.Client, job_id: str, *, seconds: float = PATIENCE) -> dict[str, Any]:
    """Return the job once its training has made steps."""

    def stepped() -> dict[str, Any] | None:
        job: dict[str, Any] = http.get(f"/jobs/{job_id}").json()
        assert job["status"] in {"queued", "running"}, job
        return job if (job["progress"] or {}).get("step") else None

    job: dict[str, Any] = wait_for(stepped, seconds=seconds)
    return job


def checkpoint(http: httpx.Client, job_id: str, *, seconds: float = PATIENCE) -> int:
    """Return the epoch of the job's first stored checkpoint."""

    def stored() -> int | None:
        assert http.get(f"/jobs/{job_id}").json()["status"] in {"queued", "running"}
        return next(iter(epochs_of(http, job_id, "checkpoint")), None)

    epoch: int = wait_for(stored, seconds=seconds)
    return epoch


def epochs_of(http: httpx.Client, job_id: str, event: str) -> list[int]:
    """Return the epochs of the job's `checkpoint` or `resumed` events."""
    events = http.get(f"/jobs/{job_id}/events").raise_for_status().json()["data"]
    return [e["data"]["epoch"] for e in events if e["type"] == event]


def submit(http: httpx.Client, archive: bytes, *, webhook: str | None = None, **config: Any) -> str:
    files = {"archive": ("shots.zip", archive)}
    fields: dict[str, Any] = {"config": httpx.Request("POST", "/", json=config).content}
    fields |= {} if webhook is None else {"webhook": webhook}
    answer = http.post("/adapt", files=files, data=fields)
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    return job_id


def colours(shots: int = 4, tests: int = 0) -> bytes:
    """Return a zip of plain images: red and green to train, and also blue to test."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for split, count, names in (
            ("train", shots, ("red", "green")),
            ("test", tests, ("red", "green", "blue")),
        ):
            for name in names:
                for i in range(count):
                    archive.writestr(f"{split}/{name}/{i}.png", plain(name, i))
    return buffer.getvalue()


def plain(name: str, shade: int = 0) -> bytes:
    """Return an image of one colour: red, green or blue."""
    colour = tuple(40 * (n != name) + 200 * (n == name) + shade for n in ("red", "green", "blue"))
    image = io.BytesIO()
    Image.new("RGB", (48, 40), colour).save(image, "PNG")
    return image.getvalue()


def commands(parent: int, *, recursive: bool = True) -> dict[psutil.Process, list[str]]:
    """Return the command line of each process below a parent, or of its own children.

    A process that ends meanwhile is left out.
    """
    found = {}
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(parent).children(recursive=recursive):
            with contextlib.suppress(psutil.NoSuchProcess):  # Or the subclass ZombieProcess.
                found[process] = process.cmdline()
    return found


def running_module(parent: int, module: str) -> psutil.Process | None:
    """Return the first process below a parent that runs `python -m module`."""
    found = (process for process, command in commands(parent).items() if command[1:3] == ["-m", module])
    return next(found, None)


def is_alive(process: psutil.Process) -> bool:
    """Say whether a process runs. One that has ended may wait for its parent to read its exit status."""
    try:
        alive: bool = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    return alive


def _listen(service: Service) -> None:
    assert service.process.stderr is not None
    for line in service.process.stderr:
        service.output.append(re.sub(r"\x1b\[[0-9;]*m", "", line))
