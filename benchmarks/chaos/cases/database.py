"""Cases of PostgreSQL, which crashes or hangs, and of wrong clocks."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from benchmarks.chaos.cases.case import (
    LONG,
    SHORT,
    Case,
    Measured,
    all_succeeded,
    events,
    in_training,
    one_kind,
    settled,
    submit,
    succeeded,
)
from benchmarks.chaos.world import World

REQUESTS = 40
HUNG_SECONDS = 15  # twelve requests of an owner wait at a time, each for some four seconds
FAKETIME = ("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")


def hung(world: World, rng: random.Random) -> Measured:
    """Stop all processes of the server: connections stay open without a response."""
    assert world.postgres is not None

    def list_jobs(_: int) -> tuple[int, float]:
        begun = time.monotonic()
        status = http.get("/jobs").status_code
        return status, time.monotonic() - begun

    with (
        # One client: loading certificates forty times takes longer than the requests.
        httpx.Client(base_url=world.cluster.url, timeout=60, trust_env=False) as http,
        ThreadPoolExecutor(REQUESTS) as pool,
    ):
        list(pool.map(list_jobs, range(REQUESTS)))  # open the connections
        world.postgres.freeze()
        try:
            answers = list(pool.map(list_jobs, range(REQUESTS)))
        finally:
            world.postgres.thaw()
        time.sleep(1)
        after = [status for status, _ in pool.map(list_jobs, range(REQUESTS))]
    ended = settled(world, submit(world, "hung", 1, **SHORT))
    refused = sum(status == 503 for status, _ in answers)
    slowest = max(seconds for _, seconds in answers)
    return Measured(
        f"{refused} × 503 in at most {slowest:.1f} s; a second after it resumes "
        f"{sum(status == 200 for status in after)} × 200; {succeeded(ended)}",
        refused == REQUESTS and slowest <= HUNG_SECONDS and set(after) == {200} and all_succeeded(ended),
    )


def hung_while_training(world: World, rng: random.Random) -> Measured:
    """Freeze PostgreSQL for longer than the lease: the worker must give up by itself."""
    assert world.postgres is not None
    ids = submit(world, "hung-training", 1, **LONG)
    worker = in_training(world, ids[0])
    trainers = worker.trainers()
    world.postgres.freeze()
    try:
        froze = time.monotonic()
        world.wait(
            lambda: not any(trainer.is_running() for trainer in trainers),
            seconds=60,
            what="the end of the trainer",
        )
        gave_up = time.monotonic() - froze
    finally:
        world.postgres.thaw()
    ended = settled(world, ids)
    return Measured(
        f"the trainer ended after {gave_up:.1f} s; {succeeded(ended)}, "
        f"{events(world, ids, 'succeeded')} publication",
        all_succeeded(ended) and events(world, ids, "succeeded") == 1,
    )


def clocks_apart(world: World, rng: random.Random) -> Measured:
    """Set the clock of one worker an hour ahead and of the other an hour behind, trainers included."""
    library = next((path for path in FAKETIME if Path(path).exists()), None)
    if library is None:
        raise FileNotFoundError("This case needs libfaketime. Install it with: sudo apt-get install faketime")
    for worker, shift in zip(world.cluster.workers, ("+1h", "-1h"), strict=True):
        worker.hold()
        worker.environment |= {"LD_PRELOAD": library, "FAKETIME": shift, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        worker.release()
    try:
        ended = settled(world, submit(world, "clock", 8, **SHORT))
        ids = [job.id for job in ended]
        lost = events(world, ids, "requeued")
        by = {job.worker for job in ended}
    finally:
        for worker in world.cluster.workers:
            worker.hold()
            for name in ("LD_PRELOAD", "FAKETIME", "FAKETIME_DONT_FAKE_MONOTONIC"):
                del worker.environment[name]
            worker.release()
    return Measured(
        f"{succeeded(ended)} by {len(by)} workers, {lost} leases expired",
        all_succeeded(ended, attempts=1) and lost == 0,
    )


CASES = [
    Case(
        "16",
        "PostgreSQL is restarted (immediate)",
        "all accepted jobs done",
        one_kind("PostgreSQL restarted", jobs=16, faults=4),
    ),
    Case(
        "17",
        "PostgreSQL hangs (SIGSTOP), 40 concurrent requests",
        f"503 in ≤ {HUNG_SECONDS} s, twelve at a time; then as before",
        hung,
    ),
    Case(
        "17b",
        "PostgreSQL hangs while a job trains",
        "the worker gives up by itself; 1 publication",
        hung_while_training,
    ),
    Case(
        "28", "the clocks of the workers are an hour off, ahead and behind", "0 false expiries", clocks_apart
    ),
]
