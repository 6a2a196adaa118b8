"""Faults, and their schedule by seed."""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from signal import SIGKILL, SIGQUIT

import psutil
import redis as redis_client

from benchmarks.chaos.world import LEASE_SECONDS, World
from core.store.storage.bucket import RETRY_SECONDS, SILENCE_SECONDS
from tests.service.running import wait_for

PAST_THE_LEASE = LEASE_SECONDS + 2
HUNG_SECONDS = 8.0
BUCKET_HUNG_SECONDS = 2 * SILENCE_SECONDS + 5.0
"""Longer than both attempts of a request to the bucket."""
BUCKET_GONE_SECONDS = RETRY_SECONDS + 10.0
"""Maximum, sometimes longer than a request to the bucket is retried."""
BURST = 4
"""Concurrent submissions just before the API is killed, so that some are interrupted."""


@dataclass(frozen=True)
class Planned:
    """A fault that occurs `delay` seconds after `after_jobs` jobs have ended."""

    kind: str
    after_jobs: int
    delay: float
    choice: float
    """Choice of the worker or the moment, 0 to 1."""


def schedule(seed: int, count: int, jobs: int, kinds: Sequence[str]) -> list[Planned]:
    """Return `count` faults over a run of `jobs`. All kinds occur before one is repeated."""
    rng = random.Random(seed)
    drawn: list[str] = []
    while len(drawn) < count:
        drawn += rng.sample(list(kinds), len(kinds))
    at = sorted(rng.uniform(0.02, 0.93) * jobs for _ in range(count))
    return [
        Planned(kind, int(after), rng.uniform(0, 1.5), rng.random())
        for kind, after in zip(drawn[:count], at, strict=True)
    ]


def kill_worker(world: World, choice: float) -> None:
    world.cluster.workers[int(choice * len(world.cluster.workers))].kill()


def kill_trainer(world: World, choice: float) -> None:
    """Kill a trainer, which may be a standby.

    Raises:
        AssertionError: no trainer ran within 30 s.
    """

    def killed() -> bool:
        trainers = [t for w in world.cluster.workers for t in w.trainers()]
        with suppress(psutil.NoSuchProcess, IndexError):
            trainers[int(choice * len(trainers))].kill()
            return True
        return False

    wait_for(killed, seconds=30)


def kill_dispatcher(world: World, choice: float) -> None:
    world.cluster.members["dispatcher"].kill()


def kill_api(world: World, choice: float) -> None:
    time.sleep(0.2 * choice)
    world.cluster.members["api"].kill()


def freeze_worker(world: World, choice: float) -> None:
    """Freeze a worker past its lease. Its trainer runs on, and the worker wakes up with a stale result."""
    worker = world.cluster.workers[int(choice * len(world.cluster.workers))]
    worker.freeze()
    time.sleep(PAST_THE_LEASE)
    worker.thaw()


def kill_redis(world: World, choice: float) -> None:
    """Kill Redis, which has no persistence and so loses all data."""
    world.redis.end(SIGKILL)
    time.sleep(2 * choice)
    world.redis.start()


def flush_redis(world: World, choice: float) -> None:
    redis_client.Redis.from_url(world.redis.url).flushall()


def hang_redis(world: World, choice: float) -> None:
    world.redis.freeze()
    time.sleep(HUNG_SECONDS)
    world.redis.thaw()


def restart_postgres(world: World, choice: float) -> None:
    """Restart like `pg_ctl -m immediate restart`: PostgreSQL recovers from its log as after a crash."""
    assert world.postgres is not None
    world.postgres.end(SIGQUIT)
    time.sleep(choice)
    world.postgres.start()


def kill_bucket(world: World, choice: float) -> None:
    """Kill the S3 server, which keeps its files."""
    assert world.bucket is not None
    world.bucket.end(SIGKILL)
    time.sleep(BUCKET_GONE_SECONDS * choice)
    world.bucket.start()


def hang_bucket(world: World, choice: float) -> None:
    assert world.bucket is not None
    world.bucket.freeze()
    time.sleep(BUCKET_HUNG_SECONDS)
    world.bucket.thaw()


Fault = Callable[[World, float], None]
EVERYWHERE: dict[str, Fault] = {
    "worker killed": kill_worker,
    "trainer killed": kill_trainer,
    "dispatcher killed": kill_dispatcher,
    "API killed": kill_api,
    "worker frozen past its lease": freeze_worker,
    "Redis killed": kill_redis,
    "Redis flushed": flush_redis,
    "Redis hung": hang_redis,
}
WITH_SERVERS: dict[str, Fault] = {**EVERYWHERE, "PostgreSQL restarted": restart_postgres}
FAULTS: dict[str, dict[str, Fault]] = {
    "postgres": WITH_SERVERS,
    "sqlite": EVERYWHERE,
    "s3": {**WITH_SERVERS, "S3 killed": kill_bucket, "S3 hung": hang_bucket},
}
