"""Cases of workers, trainers and dispatchers that die or freeze."""

import random
import time

from redis import Redis

from benchmarks.chaos.cases.case import (
    EVALUATED,
    LONG,
    SHORT,
    Case,
    Measured,
    all_succeeded,
    events,
    in_evaluation,
    in_training,
    one_kind,
    settled,
    submit,
    succeeded,
)
from benchmarks.chaos.faults import PAST_THE_LEASE
from benchmarks.chaos.world import MAX_ATTEMPTS, World
from core.settings import Settings
from core.store.db.tables import FAILED
from core.store.jobs.queue import make_celery, send_adapt


def frozen_then_killed(world: World, rng: random.Random) -> Measured:
    """Freeze and kill workers that wait for a message, so that a message may vanish with them."""
    rounds, ended = 10, []
    for number in range(rounds):
        for worker in world.cluster.workers:
            worker.freeze()
        ids = submit(world, f"frozen-{number}", 1, **SHORT)
        time.sleep(1.5)
        for worker in world.cluster.workers:
            worker.kill()
        ended += settled(world, ids)
    return Measured(f"{rounds} rounds: {succeeded(ended)}", all_succeeded(ended, attempts=1))


def trainer_killed(world: World, rng: random.Random) -> Measured:
    rounds, ids = 6, []
    for number in range(rounds):
        ids += submit(world, f"trainer-{number}", 1, **LONG)
        for trainer in in_training(world, ids[-1]).trainers():
            trainer.kill()
    ended = settled(world, ids)
    return Measured(
        f"{rounds} kills: {succeeded(ended)} at attempt {max(j.attempts for j in ended)}",
        all_succeeded(ended, attempts=2),
    )


def killed_in_the_evaluation(world: World, rng: random.Random) -> Measured:
    """Kill the worker or its trainer, in turn, after the publication."""
    rounds, kept, ids = 4, 0, []
    for number in range(rounds):
        [job_id] = submit(world, f"evaluated-{number}", 1, **EVALUATED)
        worker, model_id = in_evaluation(world, job_id)
        if number % 2:
            worker.kill()
        else:
            for trainer in worker.trainers():
                trainer.kill()
        [job] = settled(world, [job_id])
        kept += (job.model_id, (job.metrics or {}).get("verdict")) != (model_id, "not_evaluated")
        ids.append(job_id)
    ended = settled(world, ids)
    published = events(world, ids, "model_published")
    return Measured(
        f"{rounds} kills: {succeeded(ended)} at attempt {max(j.attempts for j in ended)}, "
        f"{published} publications, {kept} models with their evaluation",
        all_succeeded(ended, attempts=2) and published == kept == rounds,
    )


def poison(world: World, rng: random.Random) -> Measured:
    poisoned = submit(world, "poison", 1, epochs=1, backbone=world.backbone("aborts"))
    others = submit(world, "beside-poison", 10, **SHORT)
    bad, *good = settled(world, poisoned + others)
    return Measured(
        f"{bad.status} ({bad.error_code}) after {bad.attempts} attempts; of the others {succeeded(good)}",
        (bad.status, bad.attempts) == (FAILED, MAX_ATTEMPTS) and all_succeeded(good, attempts=1),
    )


def frozen_past_its_lease(world: World, rng: random.Random) -> Measured:
    """Freeze a worker past its lease. Its trainer runs on, so the worker wakes up with a stale result."""
    rounds, ended = 6, []
    for number in range(rounds):
        ids = submit(world, f"asleep-{number}", 1, **LONG)
        worker = in_training(world, ids[0])
        worker.freeze()
        time.sleep(PAST_THE_LEASE)
        worker.thaw()
        ended += settled(world, ids)
    published = [events(world, [job.id], "succeeded") for job in ended]
    twice = sum(count > 1 for count in published)
    return Measured(
        f"{rounds} times: {succeeded(ended)}, {twice} published twice",
        all_succeeded(ended, attempts=2) and twice == 0,
    )


def sent_many_times(world: World, rng: random.Random) -> Measured:
    """Send each message five times, beside two dispatchers."""
    app = make_celery(Settings(redis_url=world.redis.url))
    second = world.cluster.dispatchers[1]
    second.release()
    count, ids = 20, []
    for number in range(count):
        ids += submit(world, f"twice-{number}", 1, **SHORT)
        for _ in range(5):
            send_adapt(app, ids[-1])
    ended = settled(world, ids)
    second.hold()
    app.close()
    begun = events(world, ids, "started")
    return Measured(
        f"{count} jobs, {5 * count} extra messages: {begun} starts, {succeeded(ended)}",
        all_succeeded(ended, attempts=1) and begun == count,
    )


def no_redelivery(world: World, rng: random.Random) -> Measured:
    """Check that a message is acknowledged before its job runs, so that no timeout redelivers it."""
    ids = submit(world, "unacked", 1, **LONG)
    in_training(world, ids[0])
    held = int(Redis.from_url(world.redis.url).zcard("clipcite:unacked_index"))
    ended = settled(world, ids)
    begun = events(world, ids, "started")
    return Measured(
        f"{held} messages unacknowledged while it ran; {begun} start, {succeeded(ended)}",
        held == 0 and begun == 1 and all_succeeded(ended),
    )


CASES = [
    Case(
        "1",
        "a worker is killed (-9, its whole group)",
        "0 lost",
        one_kind("worker killed", jobs=16, faults=6),
    ),
    Case("2", "workers frozen, a job enqueued, workers killed", "0 of 10 lost", frozen_then_killed),
    Case("3", "the trainer is killed in the middle", "0 lost, done at attempt 2", trainer_killed),
    Case(
        "3b",
        "the worker or the trainer is killed after the publication of the model",
        "evaluated at attempt 2, 1 publication each",
        killed_in_the_evaluation,
    ),
    Case(
        "4",
        "a job that always crashes its trainer, and 10 good ones",
        f"failed after exactly {MAX_ATTEMPTS}; 10 of 10 done",
        poison,
    ),
    Case(
        "5",
        "a worker frozen past its lease wakes up with a result",
        "0 published twice",
        frozen_past_its_lease,
    ),
    Case("6", "the only dispatcher is killed", "0 lost", one_kind("dispatcher killed", jobs=16, faults=6)),
    Case("7, 8", "two dispatchers, every message five times more", "one start per job", sent_many_times),
    Case("9", "a job longer than the broker's timeout", "1 start: nothing to redeliver", no_redelivery),
]
