"""Many small jobs during a sequence of planned faults, and a check of the invariants."""

import random
import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from benchmarks.chaos.client import shots
from benchmarks.chaos.faults import BURST, FAULTS, Planned, schedule
from benchmarks.chaos.invariants import Finding, check
from benchmarks.chaos.world import MAX_ATTEMPTS, World, world
from core.store.db.tables import Job

OUTSTANDING = 12
"""Jobs in flight, enough that the queue is never empty."""
SUBMITTERS = 4
POISON = (0.25, 0.75)
"""Positions in the run of the two jobs whose trainer always dies."""
CANCELLED = 10
"""One of this many jobs is cancelled, at a random moment."""
CANCEL_SECONDS = 5.0


@dataclass(frozen=True)
class Outcome:
    """Result of a run."""

    faults: dict[str, int]
    findings: list[Finding]
    statuses: dict[str, int]
    attempts: dict[str, int]
    """Number of jobs by number of attempts."""
    retries: int
    restarts: int
    seconds: float


def run_mixed(store: str, folder: Path, *, seed: int, jobs: int, faults: int, until: float) -> Outcome:
    """Run one seed.

    Raises:
        TimeoutError: the run is not over at `until` (of time.monotonic).
    """
    plan = schedule(seed, faults, jobs, list(FAULTS[store]))
    poison_at = {int(share * jobs) for share in POISON}
    begun = time.monotonic()
    with world(store, folder) as the_world:
        client = the_world.client
        ids = storm(the_world, plan, seed=seed, jobs=jobs, until=until, poison_at=poison_at)
        findings = check(
            the_world.database,
            the_world.blobs,
            client.accepted,
            poison={ids[number] for number in poison_at},
            cancelled=client.cancelled,
            max_attempts=MAX_ATTEMPTS,
        )
        rows = the_world.query(lambda s: s.execute(select(Job.status, Job.attempts)).all())
        restarts = sum(member.starts - 1 for member in the_world.cluster.members.values())
    return Outcome(
        faults=dict(Counter(planned.kind for planned in plan)),
        findings=findings,
        statuses=dict(Counter(status for status, _ in rows)),
        attempts={str(n): count for n, count in sorted(Counter(a for _, a in rows).items())},
        retries=client.retries,
        restarts=restarts,
        seconds=time.monotonic() - begun,
    )


def storm(
    world: World, plan: Sequence[Planned], *, seed: int, jobs: int, until: float, poison_at: Collection[int]
) -> list[str]:
    """Submit all jobs, inject all faults, wait for both to end, and return the ids of the jobs.

    Jobs whose number is in `poison_at` abort their trainer.

    Raises:
        TimeoutError: the storm is not over at `until`.
    """
    rng = random.Random(seed)
    images = [shots(rng.randrange(2**31)) for _ in range(jobs)]
    cancel_after = [rng.uniform(0, CANCEL_SECONDS) for _ in range(jobs)]
    room = threading.Semaphore(OUTSTANDING)
    sent: list[Future[str]] = []
    waiting = list(plan)
    seen = 0

    def submit(number: int) -> str:
        config: dict[str, Any] = {"epochs": 1}
        if number in poison_at:
            config["backbone"] = world.aborting_backbone
        job_id = world.client.submit(f"mixed-{number}", images[number], **config)
        if number % CANCELLED == 0 and number not in poison_at:
            time.sleep(cancel_after[number])
            world.client.cancel(job_id)
        return job_id

    with ThreadPoolExecutor(SUBMITTERS) as pool:

        def fill() -> None:
            while len(sent) < jobs and room.acquire(blocking=False):
                sent.append(pool.submit(submit, len(sent)))

        while True:
            ended = world.finished_jobs()
            if ended >= jobs and not waiting:
                return [answered.result() for answered in sent]
            if ended > seen:
                room.release(ended - seen)
                seen = ended
            fill()
            for answered in sent:
                if answered.done():
                    answered.result()  # raises its error
            if waiting and ended >= waiting[0].after_jobs:
                planned = waiting.pop(0)
                time.sleep(planned.delay)
                if planned.kind == "API killed":
                    room.release(BURST)
                    fill()
                print(f"{ended:4d} of {jobs} ended: {planned.kind}", flush=True)
                FAULTS[world.store][planned.kind](world, planned.choice)
            if time.monotonic() > until:
                raise TimeoutError(f"Only {ended} of {jobs} jobs had ended at the time limit.")
            time.sleep(0.2)
