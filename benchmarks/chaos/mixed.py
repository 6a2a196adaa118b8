"""Mixed faults on a separate service, followed by a check of the invariants."""

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from benchmarks.chaos.faults import FAULTS, schedule
from benchmarks.chaos.invariants import Finding, check
from benchmarks.chaos.storm import storm
from benchmarks.chaos.world import MAX_ATTEMPTS, world
from core.store.db.tables import Job

POISON = (0.25, 0.75)
"""Positions in the run of the two jobs whose trainer always dies."""


@dataclass(frozen=True)
class Outcome:
    """Stored and printed result of a run."""

    store: str
    seed: int
    jobs: int
    faults: dict[str, int]
    findings: list[Finding]
    statuses: dict[str, int]
    attempts: dict[str, int]
    """Number of jobs by number of attempts."""
    retries: int
    replayed: int
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
        ids = storm(
            the_world,
            plan,
            name=f"mixed-{seed}",
            seed=seed,
            jobs=jobs,
            until=until,
            poison_at=poison_at,
        )
        findings = check(
            the_world.database,
            the_world.blobs,
            client.accepted,
            poison={ids[number] for number in poison_at},
            max_attempts=MAX_ATTEMPTS,
        )
        rows = the_world.query(lambda s: s.execute(select(Job.status, Job.attempts)).all())
        restarts = sum(member.starts - 1 for member in the_world.cluster.members.values())
    return Outcome(
        store=store,
        seed=seed,
        jobs=jobs,
        faults=dict(Counter(planned.kind for planned in plan)),
        findings=findings,
        statuses=dict(Counter(status for status, _ in rows)),
        attempts={str(n): count for n, count in sorted(Counter(a for _, a in rows).items())},
        retries=client.retries,
        replayed=client.replayed,
        restarts=restarts,
        seconds=time.monotonic() - begun,
    )
