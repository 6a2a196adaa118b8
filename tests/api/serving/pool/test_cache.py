import random
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from api.serving.pool.cache import StillLoading, WarmCache
from tests.api.serving.pool.contents import contents
from tests.service.running import wait_for


@pytest.fixture
def cache() -> Iterator[WarmCache[str]]:
    """Yield a cache with room for 10; the size of a value is the length of its text."""
    cache: WarmCache[str] = WarmCache(10, len)
    yield cache
    cache.close()


class Loads:
    """Loader that counts its calls and blocks while its gate is closed."""

    def __init__(self, value: str = "value") -> None:
        self.value = value
        self.count = 0
        self.started = threading.Event()
        self.gate = threading.Event()
        self.error: Exception | None = None

    def __call__(self) -> str:
        self.count += 1
        self.started.set()
        assert self.gate.wait(60)
        if self.error is not None:
            raise self.error
        return self.value


def at_once(number: int, call: Callable[[], str], meanwhile: Callable[[], None]) -> list[str | Exception]:
    """Return each thread's result. `meanwhile` runs once all threads have started."""
    barrier = threading.Barrier(number + 1)

    def one(_: int) -> str | Exception:
        barrier.wait(60)
        try:
            return call()
        except Exception as error:
            return error

    with ThreadPoolExecutor(number) as pool:
        answers = [pool.submit(one, i) for i in range(number)]
        barrier.wait(60)
        meanwhile()
        return [answer.result(60) for answer in answers]


def get(cache: WarmCache[str], key: str, load: Callable[[], str], wait_seconds: float | None = 10) -> str:
    with cache.acquire(("value", key), load, wait_seconds=wait_seconds) as value:
        return value


def put(cache: WarmCache[str], key: str, value: str) -> None:
    get(cache, key, lambda: value)


def warm(cache: WarmCache[str], keys: Iterable[str]) -> list[str]:
    """List the keys whose values are kept."""
    return [key for key in keys if cache.has(("value", key))]


# --- loading ---


def test_concurrent_requests_share_one_load(cache: WarmCache[str]) -> None:
    loads = Loads()

    def release() -> None:
        assert loads.started.wait(60)
        loads.gate.set()

    assert at_once(16, lambda: get(cache, "key", loads), release) == ["value"] * 16
    assert get(cache, "key", loads, 0) == "value"
    assert loads.count == 1


def test_others_do_not_wait_for_slow_ones(cache: WarmCache[str]) -> None:
    slow = [Loads("") for _ in range(5)]
    for i, loads in enumerate(slow):
        with pytest.raises(StillLoading):
            get(cache, f"slow{i}", loads, 0)
    assert get(cache, "quick", lambda: "q") == "q"
    for i, loads in enumerate(slow):
        loads.gate.set()
        assert get(cache, f"slow{i}", loads) == ""
        assert loads.count == 1


def test_a_failing_load_fails_every_waiter_and_is_retried(cache: WarmCache[str]) -> None:
    loads = Loads()
    loads.error = TimeoutError("the hub did not answer")

    def release() -> None:
        assert loads.started.wait(60)
        time.sleep(0.05)
        loads.gate.set()

    answers = at_once(16, lambda: get(cache, "key", loads), release)
    assert [str(answer) for answer in answers] == ["the hub did not answer"] * 16
    assert (cache.bytes, warm(cache, ["key"])) == (0, [])
    tries = loads.count
    loads.error = None
    assert get(cache, "key", loads) == "value"
    assert loads.count == tries + 1


def test_a_load_needs_others_in_its_own_thread(cache: WarmCache[str]) -> None:
    """More values are loaded than there are loader threads, each waiting for the same shared part."""

    def whole() -> str:
        return get(cache, "part", lambda: "p", None) + "w"

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(lambda i: get(cache, f"whole{i}", whole), range(20))) == {"pw"}


def test_closed_while_loading() -> None:
    cache: WarmCache[str] = WarmCache(10, len)
    loads = Loads()
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(get, cache, f"{i}", loads) for i in range(12)]
        assert loads.started.wait(60)
        wait_for(lambda: cache.counts("value").misses == 12)
        cache.close()
        loads.gate.set()
        for one in asked:
            with suppress(StillLoading):
                assert one.result(60) == "value"
    with pytest.raises(StillLoading):
        get(cache, "another", loads)


# --- eviction ---


def test_the_least_recently_used_goes_first() -> None:
    """Compared with the plain rule over a long random history."""
    cache: WarmCache[str] = WarmCache(100, len)
    plain: OrderedDict[str, int] = OrderedDict()
    drawn = random.Random(1)
    sizes = {str(i): drawn.randrange(1, 40) for i in range(30)}
    try:
        for _ in range(600):
            key = drawn.choice(list(sizes))
            put(cache, key, "x" * sizes[key])
            plain[key] = sizes[key]
            plain.move_to_end(key)
            while sum(plain.values()) > 100:
                plain.popitem(last=False)
            assert set(warm(cache, sizes)) == set(plain)
            assert cache.bytes == sum(plain.values())
        counts = cache.counts("value")
        assert counts.hits + counts.misses == 600
        assert contents(cache, "value") == (len(plain), 0)
    finally:
        cache.close()


def test_values_in_use_stay_and_are_counted(cache: WarmCache[str]) -> None:
    with cache.acquire(("value", "a"), lambda: "x" * 8, wait_seconds=10) as first:
        put(cache, "b", "yy")
        put(cache, "c", "zz")  # b makes room, a does not.
        assert warm(cache, "abc") == ["a", "c"]
        assert contents(cache, "value").in_use == 1
    put(cache, "d", "xxx")
    assert warm(cache, "abcd") == ["c", "d"]
    assert first == "x" * 8


def test_a_value_above_the_budget_is_evicted_after_use(cache: WarmCache[str]) -> None:
    put(cache, "a", "1")
    with cache.acquire(("value", "huge"), lambda: "x" * 1_000, wait_seconds=10):
        assert cache.bytes == 1_000
        assert warm(cache, ["a", "huge"]) == ["huge"]
    assert cache.bytes == 0
    put(cache, "b", "1")
    assert warm(cache, ["a", "huge", "b"]) == ["b"]


def test_a_load_waits_for_room(cache: WarmCache[str]) -> None:
    """A load waits while others use the memory. Without other users it always starts."""
    loads = Loads("y" * 6)
    loads.gate.set()

    def load_with(wait: float) -> str:
        with cache.acquire(("value", "b"), loads, wait_seconds=wait, expected_bytes=6) as value:
            return value

    with cache.acquire(("value", "a"), lambda: "x" * 6, wait_seconds=10, expected_bytes=6):
        with pytest.raises(StillLoading):
            load_with(0.05)
        assert (loads.count, cache.bytes) == (0, 6)
    assert load_with(10) == "y" * 6
    assert warm(cache, "ab") == ["b"]


def test_values_in_use_for_ever_keep_one_load_out_for_a_limited_time() -> None:
    """One value at a time may exceed the budget."""
    cache: WarmCache[str] = WarmCache(10, len, patience_seconds=0.05)
    try:
        with cache.acquire(("value", "a"), lambda: "x" * 6, wait_seconds=10, expected_bytes=6):
            with cache.acquire(("value", "b"), lambda: "y" * 6, wait_seconds=60, expected_bytes=6):
                assert cache.bytes == 12
                with (
                    pytest.raises(StillLoading),
                    cache.acquire(("value", "c"), lambda: "z" * 6, wait_seconds=0.3, expected_bytes=6),
                ):
                    pass
                assert cache.bytes == 12
            assert get(cache, "c", lambda: "z" * 6, 60) == "z" * 6
            wait_for(lambda: cache.bytes == 6)
        assert warm(cache, "abc") == ["a"]
    finally:
        cache.close()


# --- forgetting ---


def test_forgotten_values_are_evicted_after_use() -> None:
    gone: list[str] = []
    cache: WarmCache[str] = WarmCache(10, len, on_drop=gone.append)
    try:
        put(cache, "one", "1")
        put(cache, "two", "22")
        with cache.acquire(("value", "two"), lambda: "?", wait_seconds=10) as held:
            cache.forget(lambda key: True)
            assert (gone, cache.bytes) == (["1"], 2)
            put(cache, "two", "new")  # Loaded again beside the old value.
            assert (held, cache.bytes) == ("22", 5)
        assert (gone, cache.bytes) == (["1", "22"], 3)
    finally:
        cache.close()


def test_forgotten_while_it_is_loaded(cache: WarmCache[str]) -> None:
    loads = Loads()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(get, cache, "key", loads)
        assert loads.started.wait(60)
        cache.forget(lambda key: True)
        loads.gate.set()
        assert asked.result(60) == "value"  # For the request that waited for it.
    wait_for(lambda: cache.bytes == 0)
    assert warm(cache, ["key"]) == []


def test_a_failed_forgotten_load_does_not_affect_a_later_one(cache: WarmCache[str]) -> None:
    first, second = Loads("old"), Loads("new")
    first.error = ValueError("gone")
    second.gate.set()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(get, cache, "key", first)
        assert first.started.wait(60)
        cache.forget(lambda key: True)
        assert get(cache, "key", second) == "new"
        first.gate.set()
        with pytest.raises(ValueError, match="gone"):
            asked.result(60)
    assert get(cache, "key", Loads()) == "new"
    assert (warm(cache, ["key"]), cache.bytes, second.count) == (["key"], 3, 1)


# --- all together ---


def test_a_thousand_models_where_twenty_fit() -> None:
    """Eight threads request keys by a Zipf distribution while some keys are forgotten.

    Every request gets its own value, and the bytes stay within the budget.
    """
    most = 0
    lock = threading.Lock()
    alive: Counter[str] = Counter()

    def drop(value: str) -> None:
        with lock:
            alive[value] -= 1

    cache: WarmCache[str] = WarmCache(20, lambda value: 1, on_drop=drop)
    wrong: list[Any] = []

    def request_keys(seed: int) -> None:
        nonlocal most
        drawn = random.Random(seed)
        for step in range(300):
            key = str(min(999, int(drawn.paretovariate(0.6))))

            def load(key: str = key) -> str:
                time.sleep(0.0003)
                with lock:
                    alive[key] += 1
                return key

            with cache.acquire(("value", key), load, wait_seconds=10, expected_bytes=1) as value:
                wrong.extend([key, value] * (value != key))
                with lock:
                    most = max(most, cache.bytes)
            if step % 50 == 49:
                cache.forget(lambda other, key=key: other[1] == key)  # type: ignore[misc]

    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(request_keys, range(8)))
        counts = cache.counts("value")
        assert wrong == []
        assert most <= 20
        assert cache.bytes == alive.total() <= 20
        assert contents(cache, "value") == (cache.bytes, 0)
        assert counts.hits > 600
        assert counts.misses > 100
    finally:
        cache.close()
