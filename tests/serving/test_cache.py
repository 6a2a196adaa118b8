import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from core.serving.cache import StillLoading, WarmCache


@pytest.fixture
def cache() -> Iterator[WarmCache[str]]:
    """A value is as large as its text is long; room for 10."""
    cache: WarmCache[str] = WarmCache(10, len)
    yield cache
    cache.close()


class Loads:
    """A loader that counts, and waits until it is let go."""

    def __init__(self, value: str = "value", *, open: bool = False) -> None:
        self.value = value
        self.count = 0
        self.started = threading.Event()
        self.gate = threading.Event()
        self.error: Exception | None = None
        if open:
            self.gate.set()

    def __call__(self) -> str:
        self.count += 1
        self.started.set()
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        return self.value


def at_once(number: int, call: Callable[[], str], meanwhile: Callable[[], None]) -> list[str | Exception]:
    """What each of so many threads got; `meanwhile` runs when all of them are on their way."""
    barrier = threading.Barrier(number + 1)

    def one(_: int) -> str | Exception:
        barrier.wait(10)
        try:
            return call()
        except Exception as error:
            return error

    with ThreadPoolExecutor(number) as pool:
        answers = [pool.submit(one, i) for i in range(number)]
        barrier.wait(10)
        meanwhile()
        return [answer.result(10) for answer in answers]


def put(cache: WarmCache[str], key: str, value: str) -> None:
    cache.get(key, lambda: value, wait_seconds=None)


def warm(cache: WarmCache[str], key: str) -> bool:
    """Whether the key is there; asking changes nothing else than its place."""
    asked = []

    def load() -> str:
        asked.append(key)
        raise KeyError(key)

    with suppress(KeyError):
        cache.get(key, load, wait_seconds=None)
    return not asked


def test_one_load_for_many_who_ask_at_once(cache: WarmCache[str]) -> None:
    loads = Loads()

    def release() -> None:
        assert loads.started.wait(10)
        time.sleep(0.05)
        loads.gate.set()

    answers = at_once(16, lambda: cache.get("key", loads, wait_seconds=10), release)
    assert answers == ["value"] * 16
    assert loads.count == 1
    assert cache.get("key", loads, wait_seconds=0) == "value"
    assert loads.count == 1


def test_other_keys_do_not_wait_for_a_slow_one(cache: WarmCache[str]) -> None:
    slow = Loads()
    with pytest.raises(StillLoading):
        cache.get("slow", slow, wait_seconds=0)
    assert cache.get("quick", lambda: "q", wait_seconds=5) == "q"
    slow.gate.set()
    assert cache.get("slow", slow, wait_seconds=5) == "value"


def test_still_loading_and_the_value_later(cache: WarmCache[str]) -> None:
    loads = Loads()
    started = time.monotonic()
    with pytest.raises(StillLoading) as caught:
        cache.get("key", loads, wait_seconds=0.2)
    assert 0.2 <= time.monotonic() - started < 2
    assert caught.value.status == 503
    assert caught.value.code == "model_loading"
    assert "again" in caught.value.detail
    loads.gate.set()
    assert cache.get("key", loads, wait_seconds=5) == "value"
    assert loads.count == 1


def test_a_failing_load_fails_for_all_who_wait_and_is_tried_again(cache: WarmCache[str]) -> None:
    loads = Loads()
    loads.error = RuntimeError("no such file")

    def release() -> None:
        assert loads.started.wait(10)
        time.sleep(0.1)
        loads.gate.set()

    answers = at_once(16, lambda: cache.get("key", loads, wait_seconds=10), release)
    assert [str(answer) for answer in answers] == ["no such file"] * 16
    tries = loads.count
    loads.error = None
    assert cache.get("key", loads, wait_seconds=5) == "value"
    assert loads.count == tries + 1


def test_a_load_that_fails_by_a_timeout_of_its_own_is_a_failure(cache: WarmCache[str]) -> None:
    loads = Loads(open=True)
    loads.error = TimeoutError("the hub did not answer")
    with pytest.raises(TimeoutError, match="the hub did not answer"):
        cache.get("key", loads, wait_seconds=5)


def test_the_least_recently_used_goes_first(cache: WarmCache[str]) -> None:
    put(cache, "a", "4444")
    put(cache, "b", "4444")
    put(cache, "a", "not loaded again")
    put(cache, "c", "4444")
    assert [key for key in "abc" if warm(cache, key)] == ["a", "c"]


def test_as_many_go_as_the_new_one_needs(cache: WarmCache[str]) -> None:
    for key in "abcde":
        put(cache, key, "22")
    assert all(warm(cache, key) for key in "abcde")
    put(cache, "f", "55555")
    assert [key for key in "abcdef" if warm(cache, key)] == ["d", "e", "f"]


def test_the_newest_stays_however_large_it_is(cache: WarmCache[str]) -> None:
    put(cache, "a", "1")
    put(cache, "huge", "x" * 1_000)
    assert warm(cache, "huge")
    assert not warm(cache, "a")
    put(cache, "b", "1")
    assert warm(cache, "b")
    assert not warm(cache, "huge")


def test_what_costs_nothing_stays_beside_what_does(cache: WarmCache[str]) -> None:
    put(cache, "shared", "")
    put(cache, "a", "x" * 10)
    assert warm(cache, "shared")
    assert warm(cache, "a")


def test_drop(cache: WarmCache[str]) -> None:
    for key in ("one/0.1", "one/0.5", "two/0.5"):
        put(cache, key, "v")
    held = cache.get("one/0.5", lambda: "?", wait_seconds=None)
    cache.drop(lambda key: str(key).startswith("one/"))
    assert not warm(cache, "one/0.1")
    assert not warm(cache, "one/0.5")
    assert warm(cache, "two/0.5")
    assert held == "v"  # in the hands of those who use it


def test_threads_that_ask_for_everything_at_random(cache: WarmCache[str]) -> None:
    """Whatever is loaded, dropped or evicted meanwhile: everyone gets the value of the key asked for."""
    wrong = []

    def ask(seed: int) -> None:
        for step in range(200):
            key = str((seed * 31 + step * 17) % 12)
            if step % 20 == 0:
                cache.drop(lambda other, key=key: other == key)
            value = cache.get(key, lambda key=key: key * 3, wait_seconds=10)
            if value != key * 3:
                wrong.append((key, value))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    assert wrong == []


def test_a_thousand_models_where_twenty_fit() -> None:
    """Asked for as people do, a few often and most hardly ever (Zipf), by eight at once."""
    cache: WarmCache[str] = WarmCache(20, len)
    loading: Counter[str] = Counter()
    twice: list[str] = []
    most = 0
    lock = threading.Lock()

    def ask(seed: int) -> None:
        nonlocal most
        drawn = random.Random(seed)
        for _ in range(500):
            key = str(min(999, int(drawn.paretovariate(0.6))))

            def load(key: str = key) -> str:
                with lock:
                    loading[key] += 1
                    if loading[key] > 1:
                        twice.append(key)
                time.sleep(0.0005)
                with lock:
                    loading[key] -= 1
                return "x"

            assert cache.get(key, load, wait_seconds=10) == "x"
            with lock:
                most = max(most, cache.counts().bytes)

    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(8)))
        counts = cache.counts()
    finally:
        cache.close()
    assert len(loading) > 200  # far more than fit
    assert twice == []  # nobody loads what another is loading
    assert most <= 20
    assert counts.loads < counts.misses <= counts.loads * 8
    assert counts.hits > 1_500
