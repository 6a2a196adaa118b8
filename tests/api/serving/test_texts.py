"""Class names: cleaned and encoded once, in a cache with a budget."""

import gc
import threading
import tracemalloc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from api.serving.lru_cache import LruCache
from api.serving.pool.served_model import ServedModel
from api.serving.texts import (
    PROMPTS_PER_PART,
    PROMPTS_PER_TURN,
    InvalidNames,
    RequestClassifier,
)
from clipcite.types.classify import STOCK, ClassIn, ClassName, Options
from core.admission import ServerBusy
from core.clip.inference.request_rule import RequestRule
from core.clip.prompts import Candidates
from tests.api import crafted
from tests.api.serving.world import World, as_owner, assert_close, numbers
from tests.service.running import wait_for


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


def many(word: str) -> list[str]:
    return [f"{word} {i}" for i in range(2 * PROMPTS_PER_PART)]


def test_other_owners_tokenize_between_the_prompts_of_many_requests(world: World) -> None:
    world.classify()  # loads the model
    blocked, asked = Blocked(world), len(world.sentences)
    waiting = world.serving.texts._tokenizing._waiting
    with ThreadPoolExecutor(8) as pool:
        flood = [pool.submit(world.classify, many(word)) for word in ("oak", "elm", "fir", "yew", "ash")]
        assert blocked.begun.wait(60)
        wait_for(lambda: len(list(waiting)) == 4)
        other = pool.submit(as_owner, "other", lambda: world.classify(["larch", "alder"]))
        wait_for(lambda: len(list(waiting)) == 5)
        blocked.go_on.set()
        for request in (other, *flood):
            request.result(60)
    place = world.sentences[asked:].index("a photo of a larch.")
    assert place <= 2 * PROMPTS_PER_TURN


class Gone(Exception):
    pass


def test_prompts_of_a_client_that_has_gone_are_given_up(world: World) -> None:
    world.classify()
    asked = len(world.sentences)

    def take(more: int) -> None:
        if len(world.sentences) > asked:
            raise Gone

    with pytest.raises(Gone):
        world.classify(many("oak"), take=take)
    assert len(world.sentences) - asked == PROMPTS_PER_PART


def test_images_of_a_client_that_has_gone_are_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    encode, gone = ServedModel.encode_images, threading.Event()

    def watched(self: ServedModel, pixels: torch.Tensor) -> torch.Tensor:
        computed.append(len(pixels))
        gone.set()
        return encode(self, pixels)

    def take(more: int) -> None:
        if gone.is_set():
            raise Gone

    world.classify()
    monkeypatch.setattr(ServedModel, "encode_images", watched)
    with pytest.raises(Gone):
        world.classify(images=[crafted.jpeg(i) for i in range(64)], take=take)
    assert sum(computed) < 64


def test_the_time_for_prompts_is_limited_and_the_next_try_continues(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.serving.texts.MAX_SECONDS", 0.0)
    before = len(world.sentences)
    with pytest.raises(ServerBusy, match=f"{PROMPTS_PER_PART} of {2 * PROMPTS_PER_PART} class names") as busy:
        world.classify(many("oak"))
    assert busy.value.retry_after == 1
    answer = world.classify(many("oak"))
    assert len(answer.class_names) == 2 * PROMPTS_PER_PART
    assert len(world.sentences) - before == 2 * PROMPTS_PER_PART


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
            sent = tuple(ClassName(name, own and tuple(f"{name} {o}" for o in own)) for name in wide(k))
            prompts = {each.name: each.prompts for each in sent if each.prompts}
            candidates = Candidates.of(wide(k), (), ["a {}"], prompts)
            made = RequestClassifier(("net", "stock", sent, ("a {}",), 0.35), candidates, 0.35)
            # The numbers of a tensor are not in Python's memory.
            made.text_features = torch.zeros(100, 0)
            made.rule = RequestRule("untrained", made.text_features, torch.zeros(0))
            cache.put(made.key, made, made.bytes)

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
