import gc
import tracemalloc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch
from torch import Tensor

from core.serving.predictor import ResolvedClassNames, resolve_class_names
from core.serving.text_cache import Head, TextCache, Texts
from core.serving.types import ClassName


class Encoder:
    """A row is the length of the text; remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[Texts]] = []
        self.begun, self.gate = Event(), Event()
        self.gate.set()
        self.error: Exception | None = None

    def __call__(self, texts: Sequence[Texts]) -> Tensor:
        self.asked.append(list(texts))
        self.begun.set()
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        return torch.tensor([[float(len(one[0]))] * 3 for one in texts])


def texts(*names: str) -> tuple[Texts, ...]:
    return tuple((name,) for name in names)


def lengths(head: Head) -> list[float]:
    return head.features[:, 0].tolist()


def test_every_text_is_encoded_once_per_network() -> None:
    cache, encode = TextCache(100_000), Encoder()
    head = cache.head("n", texts("a", "bbb", "a"), encode)
    assert lengths(head) == [1, 3, 1]
    assert cache.head("n", texts("a", "bbb", "a"), encode) is head
    assert lengths(cache.head("n", texts("bbb", "cc"), encode)) == [3, 2]
    assert encode.asked == [list(texts("a", "bbb")), list(texts("cc"))]
    cache.head("other", texts("a"), encode)
    assert encode.asked[2:] == [list(texts("a"))]
    counts = cache.counts()
    assert (counts.rows, counts.heads, counts.hits, counts.misses, counts.encoded) == (4, 3, 1, 3, 4)


def test_within_the_budget_the_least_recently_used_goes() -> None:
    cache, encode = TextCache(10_000), Encoder()
    for i in range(50):
        cache.head("n", texts(f"{i}"), encode)
        cache.head("n", texts("often"), encode)
        assert cache.counts().bytes <= 10_000
    assert sum(asked == list(texts("often")) for asked in encode.asked) == 1
    counts = cache.counts()
    assert counts.dropped > 50
    assert counts.bytes > 5_000
    tiny = TextCache(10)
    for _ in range(2):
        assert lengths(tiny.head("n", texts("aa"), encode)) == [2]
    assert tiny.counts().bytes == 0


def test_who_asks_meanwhile_waits_for_the_same() -> None:
    cache, encode = TextCache(100_000), Encoder()
    encode.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(cache.head, "n", texts("a", "bb"), encode)
        assert encode.begun.wait(10)
        others = [pool.submit(cache.head, "n", texts("bb", "a"), encode) for _ in range(2)]
        another = pool.submit(cache.head, "n", texts("bb", "ccc"), encode)
        while len(encode.asked) < 2:
            pass
        encode.gate.set()
        assert lengths(first.result(10)) == [1, 2]
        assert [lengths(other.result(10)) for other in others] == [[2, 1]] * 2
        assert lengths(another.result(10)) == [2, 3]
    assert encode.asked == [list(texts("a", "bb")), list(texts("ccc"))]


def test_a_failure_is_not_kept() -> None:
    cache, encode = TextCache(100_000), Encoder()
    encode.error = RuntimeError("no memory")
    with pytest.raises(RuntimeError):
        cache.head("n", texts("a"), encode)
    encode.error = None
    assert lengths(cache.head("n", texts("a"), encode)) == [1]
    assert cache._coming == {}


def test_what_belongs_to_a_head() -> None:
    head, made = Head(torch.ones(2, 3)), []

    def make(features: Tensor) -> Tensor:
        made.append(len(features))
        return features[:, 0]

    for key in ("a", "b", "a", "b"):
        assert torch.equal(head.beside(key, make), torch.ones(2))
    assert len(made) == 2
    for i in range(100):
        head.beside(i, make)
    assert len(head._beside) <= 4


def test_forget() -> None:
    cache, encode = TextCache(100_000), Encoder()
    for network in ("a@0.50", "a@0.70", "b@0.50"):
        cache.head(network, texts("x"), encode)
    cache.forget(lambda network: network.startswith("a@"))
    assert (cache.counts().rows, cache.counts().heads) == (1, 1)
    cache.forget(lambda network: True)
    assert cache.counts().bytes == 0


def held(fill: Callable[[], None]) -> int:
    """The bytes that are held afterwards and were not before."""
    gc.collect()
    tracemalloc.start()
    fill()
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size


def wide(k: int, length: int = 500) -> tuple[ClassName, ...]:
    """A hundred names of which each character takes 4 bytes."""
    return tuple(ClassName(f"\U0001f600{k} {i}".ljust(length)) for i in range(100))


def test_texts_are_counted_with_all_their_bytes() -> None:
    cache = TextCache(1_000_000)

    def fill() -> None:
        for k in range(10):
            same = wide(0)  # in another order: a new head over the same rows, with sentences of its own
            texts = tuple((one.name,) for one in (*same[k:], *same[:k]))
            cache.head("net", texts, lambda some: torch.zeros(len(some), 8))

    size = held(fill)
    assert cache.counts().dropped > 0
    assert size < 1.1 * cache.budget_bytes


def test_lists_of_names_are_kept_by_their_bytes() -> None:
    lists = ResolvedClassNames(1_000_000)

    def fill() -> None:
        for k in range(10):
            asked = wide(k)
            lists.get(
                asked, "stock", ("a {}",), lambda asked=asked: resolve_class_names(asked, (), ("a {}",), {})
            )

    size = held(fill)
    assert 0.5 * lists.kept.budget_bytes < size < 1.1 * lists.kept.budget_bytes


def test_lists_with_sentences_of_their_own_are_not_kept() -> None:
    lists = ResolvedClassNames()
    asked = (*wide(0), ClassName("one", ("a sentence",)))
    lists.get(asked, "stock", ("a {}",), lambda: resolve_class_names(asked, (), ("a {}",), {}))
    assert lists.kept.bytes == 0
