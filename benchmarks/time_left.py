"""Whether the time left of a job is true.

    python -m benchmarks.time_left --data FOLDER

FOLDER holds `train/CLASS/`. A service of its own trains jobs of several sizes one after the other, alone or
beside programs that keep cores busy. The time left is noted twice a second. The output, time_left.md and
time_left.json below --out, compares the stated end at a quarter, half and three quarters of each job with the
true end, of the model and of the job. Stated and true time left may differ by a factor of WITHIN.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain, groupby
from pathlib import Path

from rich.console import Console

from benchmarks.accuracy.paper import write
from benchmarks.accuracy.tables import Table
from benchmarks.data.dataset import DataSet
from benchmarks.data.few_shot import draw_shots
from benchmarks.data.load import load
from benchmarks.full_size.service import running_service
from clipcite import Client
from clipcite.types.jobs import Job, Progress
from core.clip.config import STARTER

POLL_SECONDS = 0.5
SHARES = (0.25, 0.5, 0.75)
WITHIN = 1.5
SIZES = (10, 24, 40, 80, 120, 200)
BUSY = "while True: pass"


@dataclass
class Watched:
    """A finished job, and its progress by the seconds since its start."""

    images: int
    seen: list[tuple[float, Progress]] = field(default_factory=list)
    model: float = 0.0
    """Seconds until the model could be used."""
    end: float = 0.0

    def stated(self, share: float, *, model: bool) -> float | None:
        """Return the stated time left, as a multiple of the true one, after a share of the true time."""
        true_end = self.model if model else self.end
        at, progress = next(seen for seen in self.seen if seen[0] >= share * true_end)
        stated = progress.model_eta_seconds if model else progress.eta_seconds
        return None if stated is None else stated / (true_end - at)

    def frozen(self) -> float:
        """Return the longest time without a movement of the bar (seconds)."""
        runs = ([*run] for _, run in groupby(self.seen, key=lambda seen: round(100 * seen[1].fraction)))
        return max(run[-1][0] - run[0][0] for run in runs)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/CLASS/")
    parser.add_argument("--images", type=int, nargs="+", default=SIZES, help="training images of the jobs")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--backbone", default=STARTER)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 2], help="busy programs beside the jobs")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    options = parser.parse_args(arguments)
    console, source = Console(width=160), load(options.data)
    tables = []
    with tempfile.TemporaryDirectory(prefix="clipcite-time-") as name, ExitStack() as stack:
        folder = Path(name)
        service, _ = stack.enter_context(running_service(folder, {"CLIPCITE_BACKBONE": options.backbone}))
        client = stack.enter_context(Client(service.url))
        for busy in options.busy:
            jobs = []
            with busy_programs(busy):
                for images in list(options.images) * options.rounds:
                    jobs.append(watch(client, source, images))
                    console.print(f"beside {busy}: {row_of(jobs[-1])}", markup=False, highlight=False)
            tables.append(table(jobs, f"Beside {busy} busy programs" if busy else "Alone"))
    write(tables, "time_left", options.out, console)


def watch(client: Client, source: DataSet, images: int) -> Watched:
    """Train a job on so many images, and note its progress."""
    classes = range(min(len(source.class_names), max(2, images // 5)))
    of_class = -(-images // len(classes))
    drawn = draw_shots(source.train, classes, of_class, seed=images)
    by_class: dict[str, list[Path]] = {}
    for rank in range(of_class):  # the last images of some classes are left out
        for example in drawn[rank::of_class]:
            if sum(map(len, by_class.values())) < images:
                by_class.setdefault(source.class_names[example.label], []).append(example.path)
    job: Job = client.adapt(by_class)
    watched, started = Watched(images), 0.0
    while not job.finished:
        time.sleep(POLL_SECONDS)
        job = client.jobs.get(job.id)
        if job.status != "running" or job.progress is None:
            continue
        started = started or time.monotonic()
        now = time.monotonic() - started
        watched.seen.append((now, job.progress))
        watched.model = watched.model or (now if job.model_id else 0.0)
    watched.end = time.monotonic() - started
    watched.model = watched.model or watched.end
    return watched


@contextmanager
def busy_programs(number: int) -> Iterator[None]:
    """Keep as many cores busy."""
    programs = [subprocess.Popen([sys.executable, "-c", BUSY], env=dict(os.environ)) for _ in range(number)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def factors_of(job: Watched) -> list[list[float | None]]:
    return [[job.stated(share, model=model) for share in SHARES] for model in (True, False)]


def row_of(job: Watched) -> list[str]:
    factors = (" ".join("–" if f is None else f"{f:.2f}" for f in of) for of in factors_of(job))
    return [str(job.images), f"{job.model:.0f}", f"{job.end:.0f}", *factors, f"{job.frozen():.0f}"]


def table(jobs: Sequence[Watched], title: str) -> Table:
    rows = [row_of(job) for job in jobs]
    all_factors = [factor for job in jobs for factor in chain.from_iterable(factors_of(job))]
    true = sum(f is not None and 1 / WITHIN <= f <= WITHIN for f in all_factors)
    note = f"{true} of {len(all_factors)} within a factor of {WITHIN}."
    head = [
        *("images", "model, s", "end, s"),
        *("model: stated / true at ¼ ½ ¾", "end: stated / true at ¼ ½ ¾", "longest pause, s"),
    ]
    return Table(title, head, rows, note=note)


if __name__ == "__main__":
    main()
