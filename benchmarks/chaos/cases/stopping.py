"""Cases of jobs that are cancelled, hang or never end, and of workers that stop."""

import random
import time
from signal import SIGTERM

from benchmarks.chaos.cases.case import (
    EVALUATED,
    LONG,
    SETTLE_SECONDS,
    SHORT,
    Case,
    Measured,
    all_succeeded,
    events,
    in_evaluation,
    in_training,
    jobs_of,
    settled,
    submit,
    succeeded,
)
from benchmarks.chaos.world import LEASE_SECONDS, World
from core.store.db.tables import CANCELLED, FINAL, SUCCEEDED

STALL_SECONDS = 20 * LEASE_SECONDS
DEADLINE_SECONDS = 100.0
"""Deadline of a job in all cases: short, but longer than a job on a busy machine."""


def cancelled_while_queued(world: World, rng: random.Random) -> Measured:
    for worker in world.cluster.workers:
        worker.hold()
    ids = submit(world, "queued", 5, **SHORT)
    time.sleep(1)  # until the messages are sent
    for job_id in ids:
        world.client.cancel(job_id)
    for worker in world.cluster.workers:
        worker.release()
    others = settled(world, submit(world, "after-queued", 1, **SHORT))
    begun = events(world, ids, "started")
    states = {job.status for job in jobs_of(world, ids)}
    return Measured(
        f"5 cancelled without a worker: {begun} runs when it came",
        begun == 0 and states == {CANCELLED} and all_succeeded(others),
    )


def cancelled_while_running(world: World, rng: random.Random) -> Measured:
    rounds, seconds, left, models = 8, [], 0, 0
    for number in range(rounds):
        ids = submit(world, f"running-{number}", 1, **LONG)
        trainers = in_training(world, ids[0]).trainers()
        time.sleep(rng.uniform(0, 0.5))
        requested = time.monotonic()
        world.client.cancel(ids[0])
        [job] = settled(world, ids)
        seconds.append(time.monotonic() - requested)
        left += sum(trainer.is_running() for trainer in trainers)
        models += (job.model_id is not None) + (job.status != CANCELLED)
    return Measured(
        f"{rounds} times: cancelled within {max(seconds):.1f} s, {left} processes left, {models} models",
        max(seconds) < 10.5 and left == 0 and models == 0,
    )


def cancelled_while_evaluated(world: World, rng: random.Random) -> Measured:
    rounds, seconds, left, kept = 4, [], 0, 0
    for number in range(rounds):
        [job_id] = submit(world, f"evaluating-{number}", 1, **EVALUATED)
        worker, model_id = in_evaluation(world, job_id)
        trainers = worker.trainers()
        requested = time.monotonic()
        world.client.cancel(job_id)
        [job] = settled(world, [job_id])
        seconds.append(time.monotonic() - requested)
        left += sum(trainer.is_running() for trainer in trainers)
        notices = [notice["code"] for notice in job.warnings]
        kept += (job.status, job.model_id) == (SUCCEEDED, model_id) and "evaluation_cancelled" in notices
    return Measured(
        f"{rounds} times: ended within {max(seconds):.1f} s, {left} processes left, {kept} models kept",
        max(seconds) < 10.5 and left == 0 and kept == rounds,
    )


def cancel_races_the_end(world: World, rng: random.Random) -> Measured:
    """Cancel jobs at random moments near their end, and check that the first final state stays."""
    rounds = 16
    ids: list[str] = []
    for number in range(rounds):
        [job_id] = submit(world, f"race-{number}", 1, epochs=60, batch_size=4)
        ids.append(job_id)

        def near_its_end(job_id: str = job_id) -> bool:
            [job] = jobs_of(world, [job_id])
            return job.status in FINAL or (job.progress or {}).get("stage") == "training"

        world.wait(near_its_end, seconds=SETTLE_SECONDS, what="the training of a job")
        time.sleep(rng.uniform(0, 1.5))
        world.client.cancel(job_id)
    states = [job.status for job in settled(world, ids)]
    time.sleep(3)
    later = [job.status for job in jobs_of(world, ids)]
    ends = sum(events(world, ids, kind) for kind in FINAL)
    return Measured(
        f"{rounds} races: {states.count('cancelled')} cancelled, {states.count('succeeded')} succeeded; "
        f"{ends} final states, {sum(a != b for a, b in zip(states, later, strict=True))} changed later",
        ends == rounds and states == later and set(states) <= {"cancelled", "succeeded"},
    )


def stalled(world: World, rng: random.Random) -> Measured:
    """Stop the trainer only; its worker runs on."""
    ids = submit(world, "stalled", 1, **LONG)
    for trainer in in_training(world, ids[0]).trainers():
        trainer.suspend()
    stopped = time.monotonic()
    world.wait(
        lambda: events(world, ids, "requeued"), seconds=STALL_SECONDS + 60, what="the detection of the stall"
    )
    detected = time.monotonic() - stopped
    ended = settled(world, ids)
    return Measured(
        f"ended after {detected:.1f} s of {STALL_SECONDS:g} s; then {succeeded(ended)}",
        detected < STALL_SECONDS + 5 and all_succeeded(ended, attempts=2),
    )


def never_ends(world: World, rng: random.Random) -> Measured:
    """Run a loop in C that holds the GIL, so that no Python thread or signal handler runs."""
    [job] = settled(world, submit(world, "spins", 1, epochs=1, backbone=world.backbone("spins")))
    assert job.started_at is not None
    assert job.finished_at is not None
    seconds = (job.finished_at - job.started_at).total_seconds()
    return Measured(
        f"{job.status} ({job.error_code}) after {seconds:.1f} s of {DEADLINE_SECONDS:g} s",
        job.error_code == "deadline_exceeded" and seconds < DEADLINE_SECONDS + 10,
    )


def stopped_in_the_evaluation(world: World, rng: random.Random) -> Measured:
    """Send SIGTERM to the worker that evaluates a model."""
    [job_id] = submit(world, "stopped", 1, **EVALUATED)
    worker, model_id = in_evaluation(world, job_id)
    worker.process.send_signal(SIGTERM)
    worker.process.wait(60)
    ended = settled(world, [job_id])
    published = events(world, [job_id], "model_published")
    return Measured(
        f"{succeeded(ended)}, attempts {ended[0].attempts}, {published} publication",
        all_succeeded(ended, attempts=1) and published == 1 and ended[0].model_id == model_id,
    )


def rolling_restarts(world: World, rng: random.Random) -> Measured:
    """Send SIGTERM to each worker that has the job, one after another."""
    rounds = 5
    ids = submit(world, "rolling", 1, **LONG)
    for _ in range(rounds):
        worker = in_training(world, ids[0])
        worker.process.send_signal(SIGTERM)
        worker.process.wait(60)
    ended = settled(world, ids)
    return Measured(
        f"{rounds} restarts in one job: {succeeded(ended)}, attempts {ended[0].attempts}",
        all_succeeded(ended, attempts=1),
    )


CASES = [
    Case("22", "cancelled while queued, no worker there", "0 runs", cancelled_while_queued),
    Case("23", "cancelled while it trains", "≤ 10.5 s; 0 processes left, 0 models", cancelled_while_running),
    Case(
        "23b",
        "cancelled while its model is evaluated",
        "≤ 10.5 s; the model stays",
        cancelled_while_evaluated,
    ),
    Case("24", "a cancel races the end", "one final state each, 0 changed later", cancel_races_the_end),
    Case("25", "the trainer hangs (SIGSTOP)", f"ended ≤ {STALL_SECONDS + 5:g} s, done at attempt 2", stalled),
    Case(
        "26",
        "a training that never ends, in C with the GIL",
        f"ended ≤ {DEADLINE_SECONDS + 10:g} s",
        never_ends,
    ),
    Case("27", "SIGTERM to each worker that has the job", "done, attempts 1", rolling_restarts),
    Case(
        "27b",
        "SIGTERM after the publication",
        "evaluated, attempts 1, 1 publication",
        stopped_in_the_evaluation,
    ),
]
