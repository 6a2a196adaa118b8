"""Many small jobs during a sequence of planned faults."""

import random
import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from benchmarks.chaos.client import shots
from benchmarks.chaos.faults import BURST, FAULTS, Planned
from benchmarks.chaos.world import World

OUTSTANDING = 12
"""Jobs in flight, enough that the queue is never empty."""
SUBMITTERS = 4


def storm(
    world: World,
    plan: Sequence[Planned],
    *,
    name: str,
    seed: int,
    jobs: int,
    until: float,
    poison_at: Collection[int] = (),
) -> list[str]:
    """Submit all jobs, inject all faults, wait for both to end, and return the ids of the jobs.

    Jobs whose number is in `poison_at` abort their trainer.

    Raises:
        TimeoutError: the storm is not over at `until`.
    """
    rng = random.Random(seed)
    images = [shots(rng.randrange(2**31)) for _ in range(jobs)]
    room = threading.Semaphore(OUTSTANDING)
    sent: list[Future[str]] = []
    waiting = list(plan)
    before = world.finished_jobs()
    seen = 0

    def submit(number: int) -> str:
        config: dict[str, Any] = {"epochs": 1}
        if number in poison_at:
            config["backbone"] = world.backbone("aborts")
        return world.client.submit(f"{name}-{number}", images[number], **config)

    with ThreadPoolExecutor(SUBMITTERS) as pool:

        def fill() -> None:
            while len(sent) < jobs and room.acquire(blocking=False):
                sent.append(pool.submit(submit, len(sent)))

        while True:
            ended = world.finished_jobs() - before
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
