"""Cases of Redis: dead, hung, full or empty, and workers that no longer consume."""

import random
import time
from collections.abc import Callable
from signal import SIGKILL

import httpx
from redis import Redis
from redis.exceptions import ResponseError

from benchmarks.chaos.cases.case import (
    BEGIN_SECONDS,
    SHORT,
    Case,
    Measured,
    all_succeeded,
    events,
    jobs_of,
    one_kind,
    settled,
    submit,
    succeeded,
)
from benchmarks.chaos.world import World
from core.settings import Settings
from core.store.jobs.queue import QUEUE, make_celery
from tests.servers import Server

SUBMITS = 50
RUN_TO_THE_END = 8
P99_SECONDS = 0.3


def submits_without(name: str, away: Callable[[Server], None], back: Callable[[Server], None]) -> Case:
    """Return a case of 50 submissions without the broker, compared with 50 with it."""

    def run(world: World, rng: random.Random) -> Measured:
        usual = _timed_submits(world, f"{name}-before")
        away(world.redis)
        try:
            slowest = _timed_submits(world, name)
            status = _readiness(world)
        finally:
            back(world.redis)
        left = jobs_of(world, [i for key, i in world.client.accepted.items() if key.startswith(f"{name}-")])
        waiting = [job.id for job in left if job.status != "cancelled"]
        ended = settled(world, waiting)
        return Measured(
            f"{SUBMITS} × 202, p99 {1000 * slowest:.0f} ms (with Redis {1000 * usual:.0f} ms); readiness "
            f"{status}; then {succeeded(ended)}",
            (slowest < P99_SECONDS or slowest < 2 * usual) and status == "degraded" and all_succeeded(ended),
        )

    return Case(
        {"away": "11", "hung": "12"}[name],
        {"away": "Redis is down at the submission", "hung": "Redis hangs (SIGSTOP) at the submission"}[name],
        f"{SUBMITS} × 202, p99 < 300 ms (on a busy machine < 2 × the usual); all done after",
        run,
    )


def _timed_submits(world: World, name: str) -> float:
    """Submit 50 jobs, cancel most, and return the slowest submission, which is the 99th percentile."""
    already = len(world.client.seconds)
    ids = submit(world, name, SUBMITS, **SHORT)
    for job_id in ids[RUN_TO_THE_END if name in {"away", "hung"} else 0 :]:
        world.client.cancel(job_id)
    return max(world.client.seconds[already:])


def _readiness(world: World) -> str:
    answer = httpx.get(f"{world.cluster.url}/readyz", timeout=30, trust_env=False)
    return str(answer.json()["status"])


def flapping(world: World, rng: random.Random) -> Measured:
    rounds, begun = 8, []
    ids: list[str] = []
    for number in range(rounds):
        world.redis.end(SIGKILL)
        time.sleep(rng.random())
        world.redis.start()
        up = time.monotonic()
        ids += submit(world, f"flap-{number}", 1, **SHORT)
        last = ids[-1:]
        world.wait(
            lambda last=last: events(world, last, "started"),  # type: ignore[misc]
            seconds=BEGIN_SECONDS,
            what="the start of a job",
        )
        begun.append(time.monotonic() - up)
        settled(world, last)
    ended = settled(world, ids)
    return Measured(
        f"{rounds} times: {succeeded(ended)}, begun {min(begun):.1f} to {max(begun):.1f} s after",
        all_succeeded(ended) and max(begun) < 15,
    )


def full(world: World, rng: random.Random) -> Measured:
    """Fill Redis with `noeviction`, as other users of a broker might."""
    redis = Redis.from_url(world.redis.url)
    redis.config_set("maxmemory-policy", "noeviction")
    redis.config_set("maxmemory", redis.info("memory")["used_memory"] + 65_536)
    try:
        for number in range(1000):
            redis.set(f"filler:{number}", "x" * 4096)
        raise RuntimeError("Redis could not be filled.")
    except ResponseError:
        pass
    try:
        ids = submit(world, "full", 10, **SHORT)
        time.sleep(3)
        status = _readiness(world)
    finally:
        redis.config_set("maxmemory", 0)
    ended = settled(world, ids)
    return Measured(
        f"10 × 202, readiness {status}, then {succeeded(ended)}",
        status == "degraded" and all_succeeded(ended),
    )


def starved(world: World, rng: random.Random) -> Measured:
    """Stop the consumers of both workers by remote control, which the workers do not notice."""
    app = make_celery(Settings(redis_url=world.redis.url))
    before = [worker.starts for worker in world.cluster.workers]
    stopped = app.control.cancel_consumer(QUEUE, reply=True, timeout=10)
    app.close()
    asked = time.monotonic()
    ended = settled(world, submit(world, "starved", 2, **SHORT))
    again = [worker.starts for worker in world.cluster.workers]
    return Measured(
        f"{len(stopped)} workers starved; {sum(again) - sum(before)} ended and were restarted; "
        f"{succeeded(ended)} after {time.monotonic() - asked:.0f} s",
        all_succeeded(ended) and again != before,
    )


CASES = [
    Case("10", "Redis is killed and has lost all", "0 lost", one_kind("Redis killed", jobs=16, faults=6)),
    submits_without("away", lambda redis: redis.end(SIGKILL), lambda redis: redis.start()),
    submits_without("hung", lambda redis: redis.freeze(), lambda redis: redis.thaw()),
    Case("13", "Redis flaps, a job after each time", "all done, each begun ≤ 15 s after", flapping),
    Case("13b", "starved workers while Redis responds", "they end and are restarted; 0 lost", starved),
    Case("14", "Redis is full (noeviction)", "0 lost; `degraded` is shown; it recovers", full),
    Case("15", "FLUSHALL", "0 lost", one_kind("Redis flushed", jobs=16, faults=6)),
]
