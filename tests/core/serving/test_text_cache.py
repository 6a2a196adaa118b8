import gc
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch
from torch import Tensor

from core.admission import ServerBusy
from core.clip.inference.request_rule import RequestRule
from core.serving.names import Prompts, resolve_class_names
from core.serving.text_cache import (
    ClassifierKey,
    LruCache,
    RequestClassifier,
    TextCache,
)
from core.serving.types import ClassName


class Encoder:
    """Encoder that records its prompts. The row of a prompt is its length."""

    def __init__(self) -> None:
        self.asked: list[list[Prompts]] = []
        self.begun, self.gate = Event(), Event()
        self.gate.set()
        self.error: Exception | None = None

    def __call__(self, prompts: Sequence[Prompts]) -> Tensor:
        self.asked.append(list(prompts))
        self.begun.set()
        assert self.gate.wait(60)
        if self.error is not None:
            raise self.error
        return torch.tensor([[float(len(one[0]))] * 3 for one in prompts])


def prompts(*names: str) -> tuple[Prompts, ...]:
    return tuple((name,) for name in names)


def lengths(rows: Mapping[Prompts, Tensor]) -> dict[str, float]:
    return {prompts[0]: float(row[0]) for prompts, row in rows.items()}


def test_within_the_budget_the_least_recently_used_goes() -> None:
    cache, encode = TextCache(20_000), Encoder()
    for i in range(50):
        cache.rows("n", prompts(f"{i}"), encode)
        cache.rows("n", prompts("often"), encode)
        assert cache.kept.bytes <= 10_000
    assert sum(asked == list(prompts("often")) for asked in encode.asked) == 1
    assert len(cache.kept) < 10
    assert cache.kept.bytes > 5_000
    tiny = TextCache(20)
    for _ in range(2):
        assert lengths(tiny.rows("n", prompts("aa"), encode)) == {"aa": 2}
    assert tiny.kept.bytes == len(tiny.kept) == 0


def test_a_failure_is_not_kept() -> None:
    cache, encode = TextCache(200_000), Encoder()
    encode.error = RuntimeError("no memory")
    with pytest.raises(RuntimeError):
        cache.rows("n", prompts("a"), encode)
    encode.error = None
    assert lengths(cache.rows("n", prompts("a"), encode)) == {"a": 1}


KEY: ClassifierKey = ("net", "stock", (ClassName("oak"),), ("a {}",), 0.35, None)


def classifier(*names: str) -> RequestClassifier:
    features = torch.zeros(len(names), 0)
    resolved = resolve_class_names([ClassName(name) for name in names], (), ("a {}",), {})
    return RequestClassifier(resolved, features, RequestRule("untrained", features, torch.zeros(0)))


def test_concurrent_requests_make_a_classifier_once() -> None:
    cache, begun, go_on = TextCache(200_000), Event(), Event()
    made: list[RequestClassifier] = []

    def make() -> RequestClassifier:
        begun.set()
        assert go_on.wait(60)
        made.append(classifier("oak"))
        return made[-1]

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(cache.classifier, KEY, make, wait_seconds=60)
        assert begun.wait(60)
        others = [pool.submit(cache.classifier, KEY, make, wait_seconds=60) for _ in range(3)]
        with pytest.raises(ServerBusy):
            cache.classifier(KEY, make, wait_seconds=0.01)
        other = classifier("elm")
        assert cache.classifier((*KEY[:-1], "untrained"), lambda: other, wait_seconds=0) is other
        go_on.set()
        assert {id(request.result(60)) for request in (first, *others)} == {id(made[0])}
    assert len(made) == 1


def test_a_failure_of_another_request_is_not_shared() -> None:
    cache, begun, go_on = TextCache(200_000), Event(), Event()

    def fail() -> RequestClassifier:
        begun.set()
        assert go_on.wait(60)
        raise ServerBusy("The other owner has no more room.")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.classifier, KEY, fail, wait_seconds=60)
        assert begun.wait(60)
        second = pool.submit(cache.classifier, KEY, lambda: classifier("oak"), wait_seconds=60)
        go_on.set()
        with pytest.raises(ServerBusy):
            first.result(60)
        assert second.result(60).names.names == ["oak"]


def held(fill: Callable[[], None]) -> int:
    """Return the growth of the held memory during the call (bytes)."""
    gc.collect()
    tracemalloc.start()
    fill()
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size


def wide(k: int, length: int = 500) -> tuple[ClassName, ...]:
    """Return a hundred names in which each character takes 4 bytes."""
    return tuple(ClassName(f"\U0001f600{k} {i}".ljust(length)) for i in range(100))


@pytest.mark.parametrize("own", [(), ("a sentence of its own",)])
def test_heads_are_kept_by_their_bytes(own: Prompts) -> None:
    heads: LruCache[ClassifierKey, RequestClassifier] = LruCache(1_000_000)

    def fill() -> None:
        for k in range(10):
            asked = tuple(
                one._replace(prompts=tuple(f"{one.name} {o}" for o in own) or None) for one in wide(k)
            )
            names = resolve_class_names(asked, (), ("a {}",), {})
            # The numbers of a tensor are not in Python's memory.
            features = torch.zeros(len(asked), 0)
            head = RequestClassifier(names, features, RequestRule("untrained", features, torch.zeros(0)))
            heads.put(("net", "stock", asked, ("a {}",), 0.35, None), head, head.bytes)

    size = held(fill)
    assert len(heads) < 10
    assert 0.5 * heads.budget_bytes < size < 1.1 * heads.budget_bytes
