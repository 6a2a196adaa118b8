"""Definition of a case, and helpers shared by the cases."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from benchmarks.chaos.client import shots
from benchmarks.chaos.cluster import Member
from benchmarks.chaos.faults import schedule
from benchmarks.chaos.storm import storm
from benchmarks.chaos.world import World
from core.store.db.tables import FINAL, SUCCEEDED, Job, JobEvent

SHORT = {"epochs": 1}
LONG = {"epochs": 150, "batch_size": 4}
"""Configuration of a training long enough to interrupt and short enough to wait for."""
EVALUATED: dict[str, Any] = {"images": 16, "epochs": 20, "batch_size": 4}
"""The same for an evaluation, which trains its folds on these images."""
SETTLE_SECONDS = 400.0
BEGIN_SECONDS = 180.0


@dataclass(frozen=True)
class Measured:
    summary: str
    good: bool


@dataclass(frozen=True)
class Case:
    number: str
    what: str
    expected: str
    run: Callable[[World, random.Random], Measured]


def submit(world: World, name: str, count: int, *, images: int = 2, **config: Any) -> list[str]:
    return [world.client.submit(f"{name}-{i}", shots(i, images), **config) for i in range(count)]


def jobs_of(world: World, ids: Sequence[str]) -> list[Job]:
    rows = {job.id: job for job in world.query(lambda s: list(s.scalars(select(Job).where(Job.id.in_(ids)))))}
    return [rows[job_id] for job_id in ids if job_id in rows]


def settled(world: World, ids: Sequence[str], *, seconds: float = SETTLE_SECONDS) -> list[Job]:
    """Wait until all jobs have ended, and return them.

    Raises:
        TimeoutError: a job has not ended.
    """

    def finished() -> list[Job]:
        jobs = jobs_of(world, ids)
        return jobs if all(job.status in FINAL for job in jobs) else []

    return world.wait(finished, seconds=seconds, what="the end of all jobs")


def in_training(world: World, job_id: str) -> Member:
    """Wait until the training of a job has made steps, and return its worker.

    Raises:
        TimeoutError: the training has not started.
        RuntimeError: the job has ended already.
    """

    def stepped() -> Member | None:
        job = jobs_of(world, [job_id])[0]
        if job.status in FINAL:
            raise RuntimeError(f"{job_id} is {job.status} before its fault. Give it more epochs.")
        return holder(world, job) if (job.progress or {}).get("step") else None

    member = world.wait(stepped, seconds=BEGIN_SECONDS, what="the steps of a training")
    assert member is not None
    return member


def in_evaluation(world: World, job_id: str) -> tuple[Member, str]:
    """Wait until the model of a job is published. Return the worker that evaluates it, and the model's id.

    Raises:
        TimeoutError: the model has not been published.
        RuntimeError: the job has ended already.
    """

    def published() -> tuple[Member, str] | None:
        job = jobs_of(world, [job_id])[0]
        if job.status in FINAL:
            raise RuntimeError(f"{job_id} is {job.status} before its fault. Give it more epochs.")
        member = holder(world, job)
        return None if member is None or job.model_id is None else (member, job.model_id)

    found = world.wait(published, seconds=SETTLE_SECONDS, what="the publication of a model")
    assert found is not None
    return found


def holder(world: World, job: Job) -> Member | None:
    """Return the worker that runs the job."""
    pid = (job.worker or ":0").rpartition(":")[2]
    return next((worker for worker in world.cluster.workers if str(worker.process.pid) == pid), None)


def events(world: World, ids: Sequence[str], kind: str) -> int:
    counted = select(func.count()).select_from(JobEvent)
    return (
        world.query(lambda s: s.scalar(counted.where(JobEvent.job_id.in_(ids), JobEvent.type == kind))) or 0
    )


def all_succeeded(jobs: Sequence[Job], attempts: int | None = None) -> bool:
    return all(j.status == SUCCEEDED and attempts in (None, j.attempts) for j in jobs)


def succeeded(jobs: Sequence[Job]) -> str:
    return f"{sum(job.status == SUCCEEDED for job in jobs)} of {len(jobs)} succeeded"


def one_kind(kind: str, *, jobs: int, faults: int) -> Callable[[World, random.Random], Measured]:
    """Return a case: a small storm of one kind of fault."""

    def run(world: World, rng: random.Random) -> Measured:
        seed = rng.randrange(2**31)
        plan = schedule(seed, faults, jobs, [kind])
        until = time.monotonic() + 2 * SETTLE_SECONDS
        ids = storm(world, plan, name=kind.replace(" ", "-"), seed=seed, jobs=jobs, until=until)
        ended = jobs_of(world, ids)
        most = max(job.attempts for job in ended)
        return Measured(f"{faults} times: {succeeded(ended)}, at most {most} attempts", all_succeeded(ended))

    return run
