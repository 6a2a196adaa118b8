"""Cases of an API that dies during uploads, of clients that repeat requests, and of a flooded queue."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import func, select

from benchmarks.chaos.cases.case import SHORT, Case, Measured, jobs_of
from benchmarks.chaos.client import Client, shots
from benchmarks.chaos.world import World
from core.store.accounts import api_keys
from core.store.db.tables import FINAL, Deletion, Job

IMAGES = 40
"""Images per class, so that an upload takes a while."""


def api_killed(world: World, rng: random.Random) -> Measured:
    kills, count = 5, 30
    names = [f"api-{number}" for number in range(count)]
    archive = shots(1, IMAGES)
    before = world.client.retries
    with ThreadPoolExecutor(4) as pool:
        sending = [pool.submit(world.client.submit, name, archive, **SHORT) for name in names]
        for _ in range(kills):
            time.sleep(rng.uniform(0.3, 1.5))
            world.cluster.api.kill()
            world.cluster.wait_until_ready()
        ids = [sent.result() for sent in sending]
    cancel_all(world, ids)
    rows = world.query(lambda s: s.execute(select(Job.name, func.count()).group_by(Job.name)).all())
    doubled = [name for name, made in rows if name in names and made != 1]
    interrupted = world.query(lambda s: s.scalars(select(Deletion.prefix)).all())
    return Measured(
        f"{kills} kills, {world.client.retries - before} requests repeated: {len(set(ids))} jobs of "
        f"{count} keys, {len(doubled)} doubled; {len(interrupted)} folders of interrupted uploads will be "
        "deleted",
        len(set(ids)) == count and not doubled,
    )


def sent_in_parallel(world: World, rng: random.Random) -> Measured:
    count, times = 20, 5
    before = world.client.replayed
    with ThreadPoolExecutor(2 * times) as pool:
        sent = [
            pool.submit(world.client.submit, f"parallel-{number}", shots(number), **SHORT)
            for number in range(count)
            for _ in range(times)
        ]
        ids = {future.result() for future in sent}
    cancel_all(world, list(ids))
    replayed = world.client.replayed - before
    return Measured(
        f"{count} keys × {times}: {len(ids)} jobs, {replayed} replayed",
        len(ids) == count and replayed == count * (times - 1),
    )


def flooded_queue(world: World, rng: random.Random) -> Measured:
    """Submit jobs of two owners with keys. After the first key, clients without one are refused."""
    many, few = 30, 5
    clients = []
    for owner in ("many", "few"):
        with world.database.write() as session:
            made = api_keys.create(session, owner=owner, scopes=[api_keys.ADAPT])
        clients.append(Client(world.cluster.url, world.data.parent / "accepted.jsonl", key=made.key))
    theirs = [clients[0].submit(f"many-{i}", shots(i), **SHORT) for i in range(many)]
    mine = [clients[1].submit(f"few-{i}", shots(i), **SHORT) for i in range(few)]

    def done() -> list[Job]:
        jobs = jobs_of(world, mine)
        return jobs if all(job.status in FINAL for job in jobs) else []

    already = sum(job.status in FINAL for job in jobs_of(world, theirs))
    world.wait(done, seconds=400, what="the end of the few")
    before = sum(job.status in FINAL for job in jobs_of(world, theirs)) - already
    for job_id in theirs:
        clients[0].cancel(job_id)
    return Measured(
        f"{many} jobs of one owner, then {few} of another: those were done when {before} of the {many} were",
        before <= few + 4,
    )


def cancel_all(world: World, ids: list[str]) -> None:
    for job_id in ids:
        world.client.cancel(job_id)


CASES = [
    Case(
        "19",
        "the API is killed during uploads; clients repeat requests with their key",
        "each key exactly 1 job",
        api_killed,
    ),
    Case(
        "20",
        "each request sent five times concurrently, with one key",
        "20 jobs, 80 replays",
        sent_in_parallel,
    ),
    Case("31", "one owner floods the queue", "the other's 5 done while ≤ 9 of the flood are", flooded_queue),
]
