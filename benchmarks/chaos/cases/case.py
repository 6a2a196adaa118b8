"""A case, and the words in which the cases speak."""

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
"""Long enough to be met in the middle, short enough to be waited for."""
SETTLE_SECONDS = 400.0
BEGIN_SECONDS = 180.0


@dataclass(frozen=True)
class Measured:
    said: str
    good: bool


@dataclass(frozen=True)
class Case:
    number: str
    what: str
    expected: str
    run: Callable[[World, random.Random], Measured]


def submit(world: World, name: str, count: int, **config: Any) -> list[str]:
    return [world.client.submit(f"{name}-{i}", shots(i), **config) for i in range(count)]


def jobs_of(world: World, ids: Sequence[str]) -> list[Job]:
    rows = {job.id: job for job in world.ask(lambda s: list(s.scalars(select(Job).where(Job.id.in_(ids)))))}
    return [rows[job_id] for job_id in ids if job_id in rows]


def settled(world: World, ids: Sequence[str], *, seconds: float = SETTLE_SECONDS) -> list[Job]:
    """All of them once they have ended. Raises TimeoutError."""

    def ended() -> list[Job]:
        found = jobs_of(world, ids)
        return found if all(job.status in FINAL for job in found) else []

    return world.wait(ended, seconds=seconds, what="the end of all jobs")


def in_training(world: World, job_id: str) -> Member:
    """The worker that has the job, once its training has made steps. Raises TimeoutError."""

    def stepped() -> Member | None:
        job = jobs_of(world, [job_id])[0]
        if job.status in FINAL:
            raise RuntimeError(f"{job_id} has {job.status} before its fault came; make it longer.")
        return holder(world, job) if (job.progress or {}).get("step") else None

    member = world.wait(stepped, seconds=BEGIN_SECONDS, what="the steps of a training")
    assert member is not None
    return member


def holder(world: World, job: Job) -> Member | None:
    """The worker that runs it."""
    pid = (job.worker or ":0").rpartition(":")[2]
    return next((worker for worker in world.cluster.workers if str(worker.process.pid) == pid), None)


def events(world: World, ids: Sequence[str], kind: str) -> int:
    counted = select(func.count()).select_from(JobEvent)
    return world.ask(lambda s: s.scalar(counted.where(JobEvent.job_id.in_(ids), JobEvent.type == kind))) or 0


def all_succeeded(jobs: Sequence[Job], attempts: int | None = None) -> bool:
    return all(j.status == SUCCEEDED and attempts in (None, j.attempts) for j in jobs)


def succeeded(jobs: Sequence[Job]) -> str:
    return f"{sum(job.status == SUCCEEDED for job in jobs)} of {len(jobs)} succeeded"


def one_kind(kind: str, *, jobs: int, faults: int) -> Callable[[World, random.Random], Measured]:
    """A small storm of one kind of fault."""

    def run(world: World, rng: random.Random) -> Measured:
        seed = rng.randrange(2**31)
        plan = schedule(seed, faults, jobs, [kind])
        until = time.monotonic() + 2 * SETTLE_SECONDS
        ids = storm(world, plan, name=kind.replace(" ", "-"), seed=seed, jobs=jobs, until=until)
        ended = jobs_of(world, ids)
        most = max(job.attempts for job in ended)
        return Measured(f"{faults} times: {succeeded(ended)}, at most {most} attempts", all_succeeded(ended))

    return run
