"""Honesty of a job's progress: the bar never falls or stands still, and the time left never rises.

    python -m benchmarks.progress --data FOLDER

Jobs on the whole service are polled from start to end. Every second one has the machine for itself. During
the others, one process per core computes for 5 s and rests for 5 s in turn. In between, jobs with `evaluate:
"none"` run alone: the time to a usable model is compared with theirs.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.data.few_shot import draw_shots
from benchmarks.data.load import load
from benchmarks.machine import processor
from clipcite import Client, Dataset
from clipcite.datasets.dataset import Labelled
from clipcite.datasets.image import as_image
from demo.service import running_service

POLL_SECONDS = 0.2
LOAD_SECONDS = 5.0


@dataclass(frozen=True)
class Look:
    """A running job at one moment."""

    seconds: float
    """Time since POST /adapt."""
    stage: str
    fraction: float
    eta: float | None
    model_eta: float | None


@dataclass(frozen=True)
class Measured:
    """Progress of one job."""

    evaluate: str
    load: bool
    model_seconds: float
    """Time from POST /adapt to a usable model."""
    seconds: float
    """Time from POST /adapt to the end."""
    falls: int
    """Decreases of `fraction`."""
    rises: int
    """Increases of `eta_seconds` or `model_eta_seconds`, also after a time without a value."""
    standstill: float
    """Longest time with the same `fraction` (seconds)."""
    slowest: float
    """Longest time for 1% (seconds)."""
    first_eta: float | None
    """First stated time left, as a multiple of the true one; likewise below."""
    half_eta: float | None
    """Stated time left when half of the time was over."""
    known: float
    """Share of the time in which a time left was stated."""


def measure(
    looks: Sequence[Look], evaluate: str, load: bool, model_seconds: float, seconds: float
) -> Measured:
    """Judge the progress of a job."""
    etas = [(look.seconds, look.eta) for look in looks if look.eta is not None]
    half = next(((at, eta) for at, eta in etas if at >= seconds / 2), None)
    return Measured(
        evaluate=evaluate,
        load=load,
        model_seconds=model_seconds,
        seconds=seconds,
        falls=sum(b.fraction < a.fraction for a, b in pairwise(looks)),
        rises=_rises([look.eta for look in looks]) + _rises([look.model_eta for look in looks]),
        standstill=longest_pause(looks, 0.0),
        slowest=longest_pause(looks, 0.01),
        first_eta=_ratio(etas[0] if etas else None, seconds),
        half_eta=_ratio(half, seconds),
        known=len(etas) / max(1, len(looks)),
    )


def _rises(times: Sequence[float | None]) -> int:
    known = [seconds for seconds in times if seconds is not None]
    return sum(b > a for a, b in pairwise(known))


def _ratio(stated: tuple[float, float] | None, seconds: float) -> float | None:
    return None if stated is None else stated[1] / max(0.1, seconds - stated[0])


def longest_pause(looks: Sequence[Look], step: float) -> float:
    """Return the longest time in which `fraction` grew by at most `step`."""
    longest, since, fraction = 0.0, 0.0, 0.0
    for i, look in enumerate(looks):
        if i == 0 or look.fraction > fraction + step:
            since, fraction = look.seconds, look.fraction
        longest = max(longest, look.seconds - since)
    return longest


def follow(client: Client, images: Dataset, evaluate: str, load: bool, number: int) -> Measured:
    """Run a job and poll it until it has ended."""
    began = time.monotonic()
    job = client.adapt(images, name=f"progress-{number}", config={"evaluate": evaluate})
    looks: list[Look] = []
    model_seconds = None
    while not job.finished:
        time.sleep(POLL_SECONDS)
        job.refresh()
        now = time.monotonic() - began
        if model_seconds is None and job.model_id is not None:
            model_seconds = now
        if job.status == "running" and (p := job.progress) is not None:
            looks.append(Look(now, p.stage, p.fraction, p.eta_seconds, p.model_eta_seconds))
    if job.status != "succeeded" or model_seconds is None:
        raise SystemExit(f"The job has {job.status}: {job.error}")
    return measure(looks, evaluate, load, model_seconds, time.monotonic() - began)


@contextmanager
def loaded(load: bool) -> Iterator[None]:
    """Let one process per core work and rest in turn."""
    cores = (os.cpu_count() or 1) if load else 0
    processes = [multiprocessing.Process(target=_work_and_rest, daemon=True) for _ in range(cores)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def _work_and_rest() -> None:
    while True:
        until = time.monotonic() + LOAD_SECONDS
        while time.monotonic() < until:
            sum(range(10_000))
        time.sleep(LOAD_SECONDS)


def table(measured: Sequence[Measured]) -> str:
    """Return the results as a Markdown table."""
    head = "| job | model, s | end, s | falls | rises | standstill, s | 1% took, s | ETA at first, half |"
    lines = [head, "|---|---:|---:|---:|---:|---:|---:|---|"]
    for one in measured:
        name = "evaluate none" if one.evaluate == "none" else "under load" if one.load else "alone"
        etas = ", ".join("–" if eta is None else f"× {eta:.2f}" for eta in (one.first_eta, one.half_eta))
        lines.append(
            f"| {name} | {one.model_seconds:.1f} | {one.seconds:.1f} | {one.falls} | {one.rises} | "
            f"{one.standstill:.1f} | {one.slowest:.1f} | {etas} |"
        )
    return "\n".join(lines)


def summary(measured: Sequence[Measured]) -> dict[str, Any]:
    """Return the totals, and the median time to a model as a multiple of that without an evaluation."""
    evaluated = [one for one in measured if one.evaluate != "none"]

    def model_seconds(evaluate: str) -> float:
        return statistics.median(
            one.model_seconds for one in measured if one.evaluate == evaluate and not one.load
        )

    return {
        "jobs": len(evaluated),
        "falls": sum(one.falls for one in measured),
        "rises": sum(one.rises for one in measured),
        "standstill": max(one.standstill for one in measured),
        "model_seconds": model_seconds("auto"),
        "model_seconds_without_evaluation": model_seconds("none"),
        "ratio": model_seconds("auto") / model_seconds("none"),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and test/")
    parser.add_argument("--shots", type=int, default=8, help="images per class (default 8)")
    parser.add_argument("--jobs", type=int, default=10, help="jobs with an evaluation (default 10)")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    options = parser.parse_args(arguments)
    data = load(options.data)
    measured: list[Measured] = []
    with running_service() as service, Client(service.url, service.key) as client:
        service.wait_until_ready(seconds=90, backbone_seconds=180)
        for number in range(options.jobs):
            drawn = draw_shots(data.train, range(len(data.class_names)), options.shots, number)
            images = [Labelled(as_image(e.path, e.path.name), data.class_names[e.label]) for e in drawn]
            dataset = Dataset("progress", images)
            under_load = number % 2 == 1
            plan = [("auto", under_load)] if under_load else [("none", False), ("auto", False)]
            for evaluate, load_it in plan:
                with loaded(load_it):
                    measured.append(follow(client, dataset, evaluate, load_it, number))
                print(table(measured[-1:]).splitlines()[-1], flush=True)
    found = summary(measured)
    print(f"\n{table(measured)}\n")
    print(
        f"{found['jobs']} jobs on {os.cpu_count()} cores, {processor()}: {found['falls']} falls, "
        f"{found['rises']} rises, longest standstill {found['standstill']:.1f} s. A usable model takes "
        f"{found['ratio']:.2f} times as long as without an evaluation."
    )
    options.out.mkdir(parents=True, exist_ok=True)
    content = {"summary": found, "jobs": [asdict(one) for one in measured]}
    (options.out / "progress.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
