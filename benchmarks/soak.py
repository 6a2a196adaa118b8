"""Memory and open files of each process during many small jobs and predictions on `clipcite serve`.

    python -m benchmarks.soak --jobs 300 --predictions 5000

The setup is a tiny network, SQLite and the file queue, the defaults of `clipcite serve`. Jobs of one epoch
alternate with predictions by the stock model and by the newest models. A job and its model are deleted when
ten newer ones exist.

The benchmark records resident memory, open files, queue files and scratch folders after each share of the
work. The slope is that of the least-squares line through the last two thirds of the records, which excludes
one-time allocations.
"""

import argparse
import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image

from tests.core.clip.tiny import make_tiny_backbone

START_SECONDS = 240
JOB_SECONDS = 120
KEPT = 10
NAMES = ("red", "green", "blue")
PROCESSES = {
    "clipcite.cli.main": "serve",
    "api": "api",
    "worker": "worker",
    "worker.dispatcher": "dispatcher",
    "core.clip.data.decoder": "decoders",
}


@dataclass
class Notes:
    """Megabytes and open files by process, recorded after each share of the work."""

    memory: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    files: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    queue: list[int] = field(default_factory=list)
    scratch: list[int] = field(default_factory=list)

    def take(self, parent: psutil.Process, data: Path) -> None:
        memory: dict[str, float] = defaultdict(float)
        files: dict[str, int] = defaultdict(int)
        for process in [parent, *parent.children(recursive=True)]:
            # Trainers are left out: they come and go.
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                command = process.cmdline()
                name = PROCESSES.get(command[2]) if command[1:2] == ["-m"] else None
                if name is not None:
                    memory[name] += process.memory_info().rss / 1e6
                    files[name] += process.num_fds()
        for name in memory:
            self.memory[name].append(memory[name])
            self.files[name].append(files[name])
        self.queue.append(sum(1 for path in (data / "queue").rglob("*") if path.is_file()))
        self.scratch.append(sum(1 for _ in (data / "tmp").iterdir()) if (data / "tmp").is_dir() else 0)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--predictions", type=int, default=5_000)
    parser.add_argument("--shares", type=int, default=20, help="number of records (default 20)")
    parser.add_argument(
        "--minutes", type=float, default=60, help="time limit, checked after each share (minutes, default 60)"
    )
    options = parser.parse_args(arguments)
    notes = Notes()
    until = time.monotonic() + 60 * options.minutes
    jobs = predictions = 0
    failures: list[str] = []
    newest: list[tuple[str, str]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        _service(Path(folder)) as (url, process),
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        for share in range(1, options.shares + 1):
            while jobs < options.jobs * share // options.shares:
                failures += _job(http, newest)
                jobs += 1
            while predictions < options.predictions * share // options.shares:
                model = newest[predictions % len(newest)][1] if newest and predictions % 2 else "stock"
                failures += _prediction(http, model)
                predictions += 1
            notes.take(process, Path(folder) / "data")
            if time.monotonic() > until:
                break
    _print(notes, jobs, predictions, failures)
    return 1 if failures else 0


@contextmanager
def _service(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Run `clipcite serve` on a free port. Yield its URL and its first process."""
    environment = {
        "CLIPCITE_BACKBONE": make_tiny_backbone(folder / "backbone"),
        "CLIPCITE_CACHE": str(folder / "cache"),
        "CLIPCITE_DISPATCH_SECONDS": "0.1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    serve = [sys.executable, "-m", "clipcite.cli.main", "serve", "--no-token"]
    process = subprocess.Popen(
        [*serve, "--port", "0", "--data", str(folder / "data")],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    output: list[str] = []

    def listen() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            output.append(line)

    threading.Thread(target=listen, daemon=True).start()
    try:
        until = time.monotonic() + START_SECONDS
        while not (found := re.search(r"Ready: (http://[\w.:]+)", "".join(output))):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"The service does not start: {''.join(output)[-2000:]}")
            time.sleep(0.1)
        yield found[1], psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _job(http: httpx.Client, newest: list[tuple[str, str]]) -> list[str]:
    """Run one job, add it and its model to `newest`, and delete the oldest. Return the failures."""
    config = '{"epochs": 1, "batch_size": 4}'
    answer = http.post("/adapt", files={"archive": ("a.zip", _archive())}, data={"config": config})
    if answer.status_code != 202:
        return [answer.text]
    job_id = answer.json()["id"]
    until = time.monotonic() + JOB_SECONDS
    job = answer.json()
    while job["status"] in {"queued", "running"} and time.monotonic() < until:
        job = http.get(f"/jobs/{job_id}", params={"wait": 30}).json()
    if job["status"] != "succeeded":
        return [f"{job_id} is {job['status']} after at most {JOB_SECONDS} s: {job['error']}"]
    newest.append((job_id, job["model_id"]))
    if len(newest) > KEPT:
        old_job, old_model = newest.pop(0)
        gone = [http.delete(path) for path in (f"/jobs/{old_job}", f"/models/{old_model}")]
        return [answer.text for answer in gone if answer.status_code != 204]
    return []


def _prediction(http: httpx.Client, model: str) -> list[str]:
    """Classify one image. Return the failures."""
    data = {"model": model, "class_names": list(NAMES), "top_k": "1"}
    answer = http.post("/classify", data=data, files=[("images", ("a.png", _image("red", 0)))])
    return [] if answer.status_code == 200 else [answer.text]


def _archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in NAMES[:2]:
            for i in range(4):
                archive.writestr(f"{name}/{i}.png", _image(name, i))
    return buffer.getvalue()


def _image(name: str, shade: int) -> bytes:
    buffer = io.BytesIO()
    colour = tuple(200 * (other == name) + shade for other in NAMES)
    Image.new("RGB", (48, 40), colour).save(buffer, "PNG")
    return buffer.getvalue()


def _print(notes: Notes, jobs: int, predictions: int, failures: Sequence[str]) -> None:
    print(f"{jobs} jobs, {predictions} predictions, {len(failures)} failures")
    for failure in failures[:20]:
        print(f"- {failure[:300]}")
    print("| process | MB at first | MB at last | MB per 1,000 jobs and predictions | open files |")
    print("|---|---|---|---|---|")
    for name, megabytes in notes.memory.items():
        later = megabytes[len(megabytes) // 3 :]
        each = (jobs + predictions) / 1_000 / max(1, len(megabytes) - 1)
        slope = np.polyfit(each * np.arange(len(later)), later, 1)[0] if len(later) > 1 else float("nan")
        files = f"{notes.files[name][0]} to {notes.files[name][-1]}"
        print(f"| {name} | {megabytes[0]:.0f} | {megabytes[-1]:.0f} | {slope:+.2f} | {files} |")
    print(f"files in the queue: {min(notes.queue)} to {max(notes.queue)}, {notes.queue[-1]} at last")
    print(f"scratch folders: {min(notes.scratch)} to {max(notes.scratch)}")


if __name__ == "__main__":
    sys.exit(main())
