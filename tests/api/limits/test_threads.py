"""Blocking calls in threads: bounded, in turns, and none keeps its place."""

import asyncio
import threading
from typing import Any

import pytest

from api.threads import Threads
from core.admission import ServerBusy
from core.store.accounts import audit


async def as_owner(owner: str, threads: Threads, function: Any, *args: Any) -> Any:
    audit.act_as(audit.Actor(owner, "key"))
    return await threads.run(function, *args)


def test_calls_are_bounded_and_an_owner_leaves_half_of_the_threads() -> None:
    go = threading.Event()
    begun: list[str] = []

    def call(owner: str) -> None:
        begun.append(owner)
        assert go.wait(60)

    async def run() -> list[str]:
        threads = Threads(4, 60)
        tasks = [asyncio.create_task(as_owner("many", threads, call, "many")) for _ in range(9)]
        tasks.append(asyncio.create_task(as_owner("few", threads, call, "few")))
        async with asyncio.timeout(60):
            while len(begun) < 3:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        first = sorted(begun)
        go.set()
        await asyncio.gather(*tasks)
        assert threads.admission.slots.held == 0
        return first

    assert asyncio.run(run()) == ["few", "many", "many"]
    assert len(begun) == 10


def test_a_call_waits_for_a_limited_time_only() -> None:
    go = threading.Event()

    async def run() -> None:
        threads = Threads(1, 0.01)
        first = asyncio.create_task(threads.run(go.wait, 60))
        await asyncio.sleep(0)
        with pytest.raises(ServerBusy, match="waiting"):
            await threads.run(int)
        go.set()
        assert await first

    asyncio.run(run())


def test_an_error_passes_the_turn_on() -> None:
    async def run() -> list[Any]:
        threads = Threads(1)
        results = await asyncio.gather(
            threads.run(int, "no number"), threads.run(int, "1"), return_exceptions=True
        )
        return [isinstance(results[0], ValueError), results[1]]

    assert asyncio.run(run()) == [True, 1]
