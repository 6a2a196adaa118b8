"""Admission by bytes and slots: half per owner, turns, and no room lost to refused or cancelled requests."""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress

import pytest

from core.admission import Admission, Limit, ServerBusy


def room(slots: int = 1 << 62, bytes: int = 1 << 62) -> Admission:
    return Admission(
        slots=Limit(slots, "Slots are taken.", lambda: 7), bytes=Limit(bytes, "Bytes are taken.")
    )


def assert_empty(admission: Admission) -> None:
    assert (admission.bytes.held, admission.slots.held) == (0, 0)


def test_an_owner_holds_half_and_others_the_rest() -> None:
    admission = room(slots=10)
    with admission.admit("a", slots=3), admission.admit("a", slots=2):
        with pytest.raises(ServerBusy, match=r"Slots are taken\. Try again in 7 s\.") as caught:
            admission.admit("a", slots=1).__enter__()
        assert caught.value.retry_after == 7
        with admission.admit("b", slots=5), pytest.raises(ServerBusy), admission.admit("c", slots=1):
            pass
        with admission.admit("a"):  # it needs nothing
            pass
    assert admission.slots.refused == 2
    assert_empty(admission)


def test_a_request_alone_is_admitted_whatever_it_needs() -> None:
    """Others of its owner are not, and others find no room."""
    admission = room(bytes=100)
    with admission.admit("a", bytes=60) as grant:
        grant.take(bytes=200)
        for owner in ("a", "b"):
            with pytest.raises(ServerBusy, match="Bytes are taken"), admission.admit(owner, bytes=1):
                pass
        assert admission.bytes.held == 260
    assert_empty(admission)


def test_a_request_that_grows_counts_beside_others_only() -> None:
    admission = room(bytes=100, slots=10)
    with admission.admit("a", bytes=10) as first, admission.admit("b") as second:
        first.take(bytes=70)  # more than half: it is the owner's only request
        with pytest.raises(ServerBusy):
            second.take(bytes=30)
        assert (second.bytes, admission.bytes.held) == (0, 80)
        first.take(bytes=-60)
        second.take(bytes=30, slots=2)
        with pytest.raises(ServerBusy):
            first.take(slots=9)
    assert_empty(admission)


def test_a_full_limit_is_noticed_before_the_request_is_read() -> None:
    admission = room(slots=2)
    admission.check()
    with admission.admit("a", slots=2), pytest.raises(ServerBusy):
        admission.check()


class Calls:
    """Requests of an event loop that hold a slot until they are let go, in the order of their admission."""

    def __init__(self, slots: int, wait: float = 60) -> None:
        self.admission = room(slots=slots)
        self.wait = wait
        self.admitted: list[str] = []
        self._go = asyncio.Semaphore(0)

    async def call(self, owner: str, slots: int = 1) -> None:
        async with self.admission.admit_here(owner, slots=slots, wait=self.wait):
            self.admitted.append(owner)
            await self._go.acquire()

    async def tasks(self, *owners: str, slots: int = 1) -> "list[asyncio.Task[None]]":
        tasks = [asyncio.create_task(self.call(owner, slots)) for owner in owners]
        await self.settle()
        return tasks

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def finish(self, tasks: "Sequence[asyncio.Task[None]]") -> None:
        for _ in tasks:
            self._go.release()
            await self.settle()
        async with asyncio.timeout(60):
            await asyncio.gather(*tasks, return_exceptions=True)
        assert_empty(self.admission)


def test_owners_take_turns() -> None:
    """Each of the others is next in turn, though four requests of "many" hold the slot or wait."""

    async def run() -> list[str]:
        calls = Calls(1)
        tasks = await calls.tasks("many", "many", "many", "many", "few", "one", "few")
        await calls.finish(tasks)
        return calls.admitted

    assert asyncio.run(run()) == ["many", "many", "few", "one", "many", "few", "many"]


def test_half_of_the_slots_stay_free_for_other_owners() -> None:
    async def run() -> list[str]:
        calls = Calls(4)
        tasks = await calls.tasks(*5 * ["many"], "few")
        begun = list(calls.admitted)
        await calls.finish(tasks)
        return begun

    assert asyncio.run(run()) == ["many", "many", "few"]


def test_a_request_for_many_slots_is_not_overtaken() -> None:
    """Small requests would otherwise delay it for ever."""

    async def run() -> list[str]:
        calls = Calls(4)
        tasks = await calls.tasks("a", "b", "c")
        tasks += await calls.tasks("large", slots=2)
        tasks += await calls.tasks("small")
        await calls.finish(tasks)
        return calls.admitted

    assert asyncio.run(run()) == ["a", "b", "c", "large", "small"]


def test_a_request_waits_for_a_limited_time() -> None:
    async def run() -> None:
        calls = Calls(1, wait=0.01)
        first = await calls.tasks("a")
        for _ in range(2):  # a refused request gives back no slot that it did not have
            with pytest.raises(ServerBusy, match="Slots are taken"):
                await calls.call("b")
        assert calls.admitted == ["a"]
        await calls.finish(first)

    asyncio.run(run())


def test_a_cancelled_request_keeps_no_place() -> None:
    async def run() -> list[str]:
        calls = Calls(1)
        first, waiting, last = await calls.tasks("a", "cancelled", "b")
        waiting.cancel()
        await calls.finish([first, waiting, last])
        assert waiting.cancelled()
        return calls.admitted

    assert asyncio.run(run()) == ["a", "b"]


def test_a_request_that_is_cancelled_when_its_turn_comes_passes_it_on() -> None:
    async def run() -> None:
        admission = room(slots=1)
        calls = Calls(1)
        calls.admission = admission
        with admission.admit("a", slots=1):
            (waiting,) = await calls.tasks("b")
        waiting.cancel()  # its turn has come, but its task has not run since
        with suppress(asyncio.CancelledError):
            await waiting
        assert_empty(admission)

    asyncio.run(run())


def test_threads_take_turns_too() -> None:
    admission = room(slots=1)
    admitted: list[str] = []

    def call(owner: str) -> None:
        with admission.admit(owner, slots=1, wait=60):
            admitted.append(owner)

    threads = [threading.Thread(target=call, args=(owner,)) for owner in ("many", "many", "few")]
    with admission.admit("x", slots=1):
        for waiting, thread in enumerate(threads, 1):
            thread.start()
            while sum(map(len, admission._lines.values())) < waiting:
                pass
        with pytest.raises(ServerBusy), admission.admit("late", slots=1, wait=0.01):
            pass
    for thread in threads:
        thread.join(60)
    assert admitted == ["many", "few", "many"]
    assert_empty(admission)


def test_with_a_whole_share_an_owner_may_hold_all_and_waits_for_those_in_line() -> None:
    admission = Admission(slots=Limit(2, share=1))
    admitted, ended = threading.Event(), threading.Event()

    def wait() -> None:
        with admission.admit("b", slots=2, wait=60):
            admitted.set()
            ended.wait(60)

    with admission.admit("a", slots=1):
        with admission.admit("a", slots=1):
            thread = threading.Thread(target=wait)
            thread.start()
            while not admission._lines:
                threading.Event().wait(0.001)
        with pytest.raises(ServerBusy), admission.admit("a", slots=1):
            pass
        assert not admitted.is_set()
    assert admitted.wait(60)
    ended.set()
    thread.join(60)
    assert_empty(admission)
