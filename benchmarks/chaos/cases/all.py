"""All cases in their order on one service. The flooded queue is last, because it needs keys."""

import random
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from sqlalchemy import select

from benchmarks.chaos.cases import broker, database, processes, requests, stopping
from benchmarks.chaos.cases.case import SETTLE_SECONDS, Case, Measured
from benchmarks.chaos.invariants import check
from benchmarks.chaos.report import Row
from benchmarks.chaos.world import MAX_ATTEMPTS, World, world
from core.store.db.tables import FINAL, Job

CASES: list[Case] = [
    *stopping.CASES,
    *processes.CASES,
    *broker.CASES,
    *database.CASES,
    *requests.CASES,
]
# Cases that a test covers as well as a benchmark: (case, description, expected, test).
TESTED = [
    (
        "6b",
        "a dispatcher dies between commit and sending",
        "sent again",
        "tests/worker/dispatcher/test_dispatcher.py::test_what_was_taken_and_never_sent_is_due_again",
    ),
    (
        "18",
        "contending writers on SQLite",
        "0 errors, 0 lost",
        "tests/core/store/databases/test_races.py::test_contending_writers_neither_fail_nor_lose_a_write",
    ),
    (
        "21",
        "the same key with another body",
        "422, 0 jobs",
        "tests/api/jobs/test_idempotency.py::test_another_content_is_refused",
    ),
    (
        "28b",
        "leases and clocks of the processes",
        "the database's clock only",
        "tests/core/store/databases/test_clocks.py",
    ),
    (
        "29",
        "the newest checkpoint of a training is torn",
        "the one before it is used",
        "tests/core/clip/training/test_checkpoint.py::test_a_torn_one_is_not_used_but_the_one_before_it",
    ),
    (
        "30",
        "a seeded training is killed three times",
        "0 difference to one that is not (CPU)",
        "tests/worker/trainer/test_trainer.py::test_killed_three_times_gives_the_same_weights",
    ),
]


def run_cases(wanted: Collection[str], *, seed: int, until: float) -> Iterator[Row]:
    """Run the wanted cases on one service, then check the invariants.

    A case that raises gives a failed row, and the next one still runs.
    """
    chosen = [case for case in CASES if case.number in wanted]
    if not chosen:
        return
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as folder,
        world(
            "postgres",
            Path(folder),
            dispatchers=2,
            deadline_seconds=stopping.DEADLINE_SECONDS,
        ) as the_world,
    ):
        the_world.cluster.dispatchers[1].hold()
        for case in chosen:
            if time.monotonic() > until:
                return
            yield _row(case, the_world, seed)
        yield _afterwards(the_world, chosen)


def _row(case: Case, the_world: World, seed: int) -> Row:
    begun = time.monotonic()
    try:
        measured = case.run(the_world, random.Random(f"{seed} {case.number}"))
    except Exception as error:
        measured = Measured(f"{type(error).__name__}: {error}", False)
    return Row(
        case.number, case.what, case.expected, measured.summary, measured.good, time.monotonic() - begun
    )


def _afterwards(the_world: World, chosen: Sequence[Case]) -> Row:
    begun = time.monotonic()
    left = select(Job.id).where(Job.status.not_in(FINAL)).limit(1)
    with suppress(TimeoutError):  # the check reports the jobs that have not ended
        the_world.wait(
            lambda: the_world.query(lambda s: s.scalar(left)) is None,
            seconds=SETTLE_SECONDS,
            what="the end of all remaining jobs",
        )
    client = the_world.client
    poison = {i for key, i in client.accepted.items() if key.startswith(("poison", "spins"))}
    findings = check(
        the_world.database,
        the_world.blobs,
        client.accepted,
        poison=poison,
        cancelled=client.cancelled,
        max_attempts=MAX_ATTEMPTS,
    )
    broken = [broken for finding in findings for broken in finding.broken]
    summary = f"{len(client.accepted)} jobs, {len(findings)} invariants: {len(broken)} broken"
    return Row(
        "all",
        f"the invariants after {', '.join(case.number for case in chosen)}",
        "0 broken",
        "; ".join([summary, *broken[:5]]),
        not broken,
        time.monotonic() - begun,
    )
