"""Class names: cleaned and encoded once, in a cache with a budget."""

import gc
import threading
import tracemalloc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from api.serving.texts import InvalidNames, LruCache, RequestClassifier
from clipcite.types.classify import ClassIn, Options
from core.admission import ServerBusy
from core.clip.inference.request_rule import RequestRule
from core.store.registry.references import STOCK
from tests.api.serving.world import World, assert_close, numbers


def test_within_the_budget_the_least_recently_used_goes() -> None:
    cache = LruCache(100)
    for i in range(50):
        cache.put(i, str(i), 30)
        cache.put("often", "x", 30)
        assert cache.get("often") == "x"
        assert cache.bytes <= 100
    assert [cache.get(i) for i in range(47, 50)] == [None, "48", "49"]
    cache.put("large", "x", 101)
    assert cache.get("large") is None
    assert (len(cache), cache.bytes) == (3, 90)


class Blocked:
    """Tokenizer that waits until it is let go, and then may fail once."""

    def __init__(self, world: World) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.errors: list[Exception] = []
        world.before_tokenizing = self._wait

    def _wait(self, sentences: Sequence[str]) -> None:
        self.begun.set()
        assert self.go_on.wait(60)
        if self.errors:
            raise self.errors.pop()


def test_concurrent_requests_encode_their_names_once(world: World) -> None:
    blocked = Blocked(world)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(world.classify, ["oak", "elm"])
        assert blocked.begun.wait(60)
        others = [pool.submit(world.classify, ["oak", "elm"]) for _ in range(3)]
        blocked.go_on.set()
        answers = [numbers(request.result(60)) for request in (first, *others)]
    for answer in answers:
        assert_close(answer, answers[0])
    assert sorted(world.sentences) == ["a photo of a elm.", "a photo of a oak."]


def test_long_waits_are_refused_and_do_not_delay_other_names(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.classify(["elm", "oak"])
    blocked = Blocked(world)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(world.classify, ["oak", "fir"])
        assert blocked.begun.wait(60)
        monkeypatch.setattr(world.serving.engine, "wait_seconds", 0.01)
        with pytest.raises(ServerBusy, match="class names are being processed"):
            world.classify(["oak", "fir"])
        monkeypatch.setattr(world.serving.engine, "wait_seconds", 60)
        world.classify(["elm", "oak"])
        blocked.go_on.set()
        first.result(60)


def test_a_failure_of_another_request_is_not_shared(world: World) -> None:
    blocked = Blocked(world)
    blocked.errors.append(ServerBusy("The other owner has no more room."))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(world.classify, ["oak", "elm"])
        assert blocked.begun.wait(60)
        second = pool.submit(world.classify, ["oak", "elm"])
        blocked.go_on.set()
        with pytest.raises(ServerBusy, match="other owner"):
            first.result(60)
        assert len(second.result(60).class_names) == 2


def held(fill: Callable[[], None]) -> int:
    """Return the growth of the held memory during the call (bytes)."""
    gc.collect()
    tracemalloc.start()
    fill()
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size


def wide(k: int) -> list[str]:
    """Return a hundred names in which each character takes 4 bytes."""
    return [f"\U0001f600{k} {i}".ljust(190, "x") for i in range(100)]


@pytest.mark.parametrize("own", [None, ("a sentence of its own",)])
def test_classifiers_are_kept_by_their_bytes(own: Any) -> None:
    cache = LruCache(1_000_000)

    def fill() -> None:
        for k in range(20):
            given = tuple((name, tuple(f"{name} {o}" for o in own)) if own else name for name in wide(k))
            prompts = [item[1] if own else (f"a {item}",) for item in given]
            key = ("net", "stock", given, ("a {}",), 0.35)
            made = RequestClassifier(key, wide(k), [-1] * 100, prompts)  # type: ignore[arg-type]
            # The numbers of a tensor are not in Python's memory.
            made.text_features = torch.zeros(100, 0)
            made.rule = RequestRule("untrained", made.text_features, torch.zeros(0))
            cache.put(key, made, made.bytes)

    size = held(fill)
    assert len(cache) < 20
    assert 0.5 * cache.budget_bytes < size < 1.1 * cache.budget_bytes


def test_refused_names_are_all_listed_and_not_kept(world: World) -> None:
    def refused() -> None:
        for k in range(4):
            names = [f"{k}\0", *(ClassIn(name=name, prompts=["\U0001f600" * 900]) for name in wide(k)), ""]
            with pytest.raises(InvalidNames) as caught:
                world.serving.texts.classifier(model, Options(class_names=names))
            assert [error["pointer"] for error in caught.value.errors] == [
                "/class_names/0",
                "/class_names/101",
            ]

    with world.serving.hold(STOCK, None) as model:
        assert held(refused) < 60_000
