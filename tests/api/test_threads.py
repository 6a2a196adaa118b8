"""Limits on concurrent calls: owners take turns, and a cancelled call keeps no place."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import anyio.to_thread
import pytest

from api.threads import Threads, Turns
from core.admission import ServerBusy
from core.store.accounts import audit


async def as_owner(owner: str, call: Coroutine[Any, Any, Any]) -> None:
    audit.act_as(audit.Actor(owner, "key"))
    await call


class Calls:
    """Calls that wait in their threads until they are let go, and the owners in the order of their starts."""

    def __init__(self, max_threads: int) -> None:
        self.threads = Threads(f"test-{id(self)}", max_threads)
        self.started: list[str] = []
        self.go = threading.Semaphore(0)
        self.most = 0
        self._running = 0
        self._lock = threading.Lock()

    def _work(self, name: str) -> None:
        with self._lock:
            self.started.append(name)
            self._running += 1
            self.most = max(self.most, self._running)
        self.go.acquire(timeout=60)
        with self._lock:
            self._running -= 1

    async def task(self, owner: str, name: str = "") -> "asyncio.Task[None]":
        """Start a call and return when it either runs or waits."""
        call = self.threads.run(self._work, name or owner)
        task = asyncio.create_task(as_owner(owner, call))
        await asyncio.sleep(0)
        return task

    async def until(self, started: int) -> None:
        async with asyncio.timeout(60):
            while len(self.started) < started:
                await asyncio.sleep(0.001)


def test_owners_take_turns() -> None:
    """Three calls of "many" run or wait before "few" and "one" call: each of these is next in turn."""

    async def run() -> list[str]:
        calls = Calls(1)
        tasks = [await calls.task("many") for _ in range(4)]
        tasks += [await calls.task(owner) for owner in ("few", "one", "few")]
        for started in range(1, len(tasks) + 1):
            await calls.until(started)
            calls.go.release()
        await asyncio.gather(*tasks)
        return calls.started

    assert asyncio.run(run()) == ["many", "many", "few", "one", "many", "few", "many"]


def test_an_owner_leaves_a_place_free() -> None:
    """Its calls may take minutes."""

    async def run() -> list[str]:
        calls = Calls(3)
        tasks = [await calls.task("many") for _ in range(5)]
        tasks.append(await calls.task("few"))
        await calls.until(3)
        started = list(calls.started)
        calls.go.release(len(tasks))
        await asyncio.gather(*tasks)
        assert calls.most == 3
        return started

    assert sorted(asyncio.run(run())) == ["few", "many", "many"]


def test_calls_without_an_owner_take_all_places() -> None:
    async def run() -> None:
        calls = Calls(2)
        tasks = [await calls.task("") for _ in range(2)]
        await calls.until(2)
        calls.go.release(2)
        await asyncio.gather(*tasks)

    asyncio.run(run())


def test_a_call_waits_for_a_limited_time_only() -> None:
    async def run() -> None:
        turns = Turns(1, 0.01)
        async with turns.turn("a"):
            for _ in range(2):  # a refused call gives back no place that it did not have
                with pytest.raises(ServerBusy):
                    async with turns.turn("b"):
                        pass
        async with turns.turn("b"):  # the refused call has taken no place
            pass

    asyncio.run(run())


def test_no_more_than_the_maximum_run_at_once() -> None:
    async def run() -> tuple[int, int]:
        calls = Calls(3)
        tasks = [await calls.task(f"owner {i % 2}") for i in range(20)]
        await calls.until(3)
        for _ in tasks:
            calls.go.release()
        await asyncio.gather(*tasks)
        return calls.most, len(calls.started)

    assert asyncio.run(run()) == (3, 20)


def test_a_call_that_is_cancelled_while_it_waits_gets_no_turn() -> None:
    async def run() -> list[str]:
        calls = Calls(1)
        first = await calls.task("a", "first")
        waiting = await calls.task("a", "cancelled")
        last = await calls.task("b", "last")
        waiting.cancel()
        calls.go.release(2)
        async with asyncio.timeout(60):
            await asyncio.gather(first, last)
        return calls.started

    assert asyncio.run(run()) == ["first", "last"]


def test_a_call_that_is_cancelled_when_it_is_called_passes_its_turn_on() -> None:
    async def take_turn(turns: Turns) -> None:
        async with turns.turn("a"):
            pass

    async def run() -> None:
        turns = Turns(1, 60)
        async with turns.turn("a"):
            called = asyncio.create_task(take_turn(turns))
            await asyncio.sleep(0)
        called.cancel()
        async with asyncio.timeout(60):
            await take_turn(turns)
        assert called.cancelled()

    asyncio.run(run())


def test_an_error_passes_the_turn_on() -> None:
    async def run() -> list[int]:
        threads = Threads("test-error", 1)
        results = await asyncio.gather(
            threads.run(int, "no number"), threads.run(int, "1"), return_exceptions=True
        )
        return [isinstance(results[0], ValueError), results[1]]

    assert asyncio.run(run()) == [True, 1]


def test_a_shared_call_without_a_thread_does_not_fail_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    start_thread = anyio.to_thread.run_sync

    async def fail(*_args: Any, **_kwargs: Any) -> None:
        monkeypatch.setattr(anyio.to_thread, "run_sync", start_thread)
        raise RuntimeError("can't start new thread")

    async def run() -> int:
        threads = Threads("test-shared-error", 1)
        with pytest.raises(RuntimeError, match="new thread"):
            await threads.run_shared(int, "1")
        return await threads.run_shared(int, "1")

    monkeypatch.setattr(anyio.to_thread, "run_sync", fail)
    assert asyncio.run(run()) == 1
