"""The batcher's threads, with a model that adds one and can be blocked."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest
import torch
from torch import Tensor

from api.serving.batching import batcher as batches
from api.serving.batching.batch import BatchItem, QueueKey, rows_left
from api.serving.batching.batcher import Batcher, Pending
from core.admission import ServerBusy
from tests.api.serving.world import as_owner


class Slow:
    """Model that records its batches and blocks while its gate is closed."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.batches: list[list[float]] = []
        self.error: Exception | None = None

    def __call__(self, rows: Tensor) -> Tensor:
        self.begun.set()
        assert self.gate.wait(60)
        if self.error is not None:
            raise self.error
        self.batches.append(rows[:, 0].tolist())
        return rows + 1


class BatcherWithModels(Batcher):
    """Batcher with a model per queue key."""

    def __init__(self, workers: int) -> None:
        self.models: dict[QueueKey, Callable[[Tensor], Tensor]] = {}
        super().__init__({"images": 4, "prompts": 2}, workers, lambda lane, rows: self.models[lane](rows))

    def submit_to(
        self,
        lane: QueueKey,
        network: Callable[[Tensor], Tensor],
        rows: Tensor,
        last_of: Pending | None = None,
    ) -> BatchItem:
        self.models[lane] = network
        return self.submit(lane, rows, last_of)


@pytest.fixture
def batcher() -> Iterator[BatcherWithModels]:
    batcher = BatcherWithModels(workers=1)
    yield batcher
    batcher.close()


def rows(*values: float, width: int = 2) -> Tensor:
    return torch.tensor(values)[:, None].expand(-1, width).clone()


def held_up(batcher: BatcherWithModels, network: Slow) -> BatchItem:
    """Block the batcher until the gate opens."""
    network.gate.clear()
    network.begun.clear()
    work = batcher.submit_to(("blocker", "images"), network, rows(-1))
    assert network.begun.wait(60)
    return work


def waiting_for(
    item: BatchItem, batcher: Batcher, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> Future[Tensor]:
    """Wait for an item in another thread, at most 20 ms while others are started."""
    asked, result = threading.Event(), item.features.result
    monkeypatch.setattr(item.features, "result", lambda timeout: (asked.set(), result(timeout))[1])
    waiting = pool.submit(batcher.wait, item, 0.02)
    assert asked.wait(60)
    return waiting


def waiting_rows(batcher: Batcher) -> int:
    with batcher._changed:
        return sum(rows_left(items) for items in batcher._queues.values())


def test_batched_requests_get_their_own_rows(batcher: BatcherWithModels) -> None:
    network = Slow()
    held_up(batcher, network)
    works = [batcher.submit_to(("a", "images"), network, rows(*range(i, i + 1 + i % 3))) for i in range(8)]
    network.gate.set()
    for i, work in enumerate(works):
        assert torch.equal(batcher.wait(work, 60), rows(*range(i, i + 1 + i % 3)) + 1)
    assert all(len(batch) == 4 for batch in network.batches[1:-1])  # Batches are full while enough rows wait.
    counts = batcher.counts()
    assert waiting_rows(batcher) == 0
    assert counts.rows["images"] == 1 + sum(1 + i % 3 for i in range(8))
    assert counts.batches["images"] == len(network.batches)


def test_a_lone_request_does_not_wait(batcher: BatcherWithModels) -> None:
    network = Slow()
    for i in range(5):
        assert torch.equal(
            batcher.wait(batcher.submit_to(("a", "images"), network, rows(i)), 60), rows(i + 1)
        )
    assert network.batches == [[i] for i in range(5)]


def test_every_model_has_its_turn(batcher: BatcherWithModels) -> None:
    """However many requests wait for the first model, the others follow after one batch of it each."""
    network = Slow()
    held_up(batcher, network)
    flood = [batcher.submit_to(("flood", "images"), network, rows(1, 1)) for _ in range(20)]
    others = [batcher.submit_to((str(i), "images"), network, rows(i)) for i in (2, 3)]
    prompts = [batcher.submit_to(("2", "prompts"), network, rows(9, 9, 9)) for _ in range(2)]
    network.gate.set()
    for work in (*flood, *others, *prompts):
        batcher.wait(work, 60)
    ones, nines = [1.0] * 4, [9.0] * 2
    assert network.batches[1:8] == [ones, [2.0], [3.0], nines, ones, nines, ones]


@pytest.mark.parametrize("many", [1, 20])
def test_every_owner_has_its_turn(batcher: BatcherWithModels, many: int) -> None:
    """Rows of another owner follow after one batch, however many rows or requests wait for the same model."""
    network = Slow()
    held_up(batcher, network)
    flood = [batcher.submit_to(("a", "prompts"), network, rows(*[1] * 100)) for _ in range(many)]
    other = as_owner("other", lambda: batcher.submit_to(("a", "prompts"), network, rows(2)))
    network.gate.set()
    assert torch.equal(batcher.wait(other, 60), rows(3))
    assert 2.0 in network.batches[1] + network.batches[2]
    for work in flood:
        batcher.wait(work, 60)


def test_requests_of_an_owner_take_turns(batcher: BatcherWithModels) -> None:
    """A large request does not hold up a small one."""
    network = Slow()
    held_up(batcher, network)
    large, small = (batcher.submit_to(("a", "images"), network, rows(*[i] * n)) for i, n in ((1, 99), (2, 1)))
    network.gate.set()
    for work in (large, small):
        batcher.wait(work, 60)
    assert network.batches[1:3] == [[1.0] * 4, [2.0, 1.0, 1.0, 1.0]]


def test_rows_of_another_shape_get_their_own_batch(batcher: BatcherWithModels) -> None:
    network = Slow()
    held_up(batcher, network)
    works = [batcher.submit_to(("a", "images"), network, rows(i, width=2 + i // 2)) for i in range(4)]
    network.gate.set()
    for i, work in enumerate(works):
        assert torch.equal(batcher.wait(work, 60), rows(i + 1, width=2 + i // 2))
    assert network.batches[1:] == [[0, 1], [2, 3]]


def test_a_request_is_refused_while_others_are_computed_and_leaves_nothing(
    batcher: BatcherWithModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Slow(), Slow()
    current = held_up(batcher, first)
    second.gate.clear()
    turn = batcher.submit_to(("b", "images"), second, rows(1))
    late = batcher.submit_to(("a", "images"), Slow(), rows(5))
    with ThreadPoolExecutor(2) as pool:
        refused = waiting_for(late, batcher, pool, monkeypatch)
        begun = pool.submit(batcher.wait, turn, 0.02)
        first.gate.set()
        with pytest.raises(ServerBusy, match="Try again"):
            refused.result(60)
        assert second.begun.is_set()
        assert waiting_rows(batcher) == 0
        ending = threading.Thread(target=batcher.end, args=[late], daemon=True)  # The request ends, too.
        ending.start()
        ending.join(10)
        assert not ending.is_alive()
        second.gate.set()
        assert torch.equal(begun.result(60), rows(2))  # Computing rows are waited for.
    assert torch.equal(batcher.wait(current, 60), rows(0))
    assert (first.batches, second.batches) == ([[-1.0]], [[1.0]])


def test_images_keep_the_prompts_of_their_model_waiting(
    batcher: BatcherWithModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow one thread is, a request does not get refused because of its own images."""
    first, second = Slow(), Slow()
    second.gate.clear()
    held_up(batcher, first)
    images = batcher.submit_to(("a", "images"), second, rows(1))
    prompts = batcher.submit_to(("a", "prompts"), Slow(), rows(5))
    with ThreadPoolExecutor(1) as pool:
        waiting = waiting_for(prompts, batcher, pool, monkeypatch)
        assert not wait([waiting], 0.1).done
        first.gate.set()
        assert second.begun.wait(60)
        assert not wait([waiting], 0.1).done
        second.gate.set()
        assert torch.equal(waiting.result(60), rows(6))
    assert torch.equal(batcher.wait(images, 60), rows(2))


def test_begun_work_is_not_withdrawn(batcher: BatcherWithModels) -> None:
    network = Slow()
    network.gate.clear()
    work = batcher.submit_to(("a", "images"), network, rows(*range(6)))
    assert network.begun.wait(60)  # 4 rows are being computed, 2 wait.
    assert not batcher.withdraw(work)
    network.gate.set()
    assert torch.equal(batcher.wait(work, 60), rows(*range(6)) + 1)


def test_an_error_reaches_every_request_of_the_batch(batcher: BatcherWithModels) -> None:
    network = Slow()
    held_up(batcher, network)
    network.error = RuntimeError("out of memory")
    works = [batcher.submit_to(("a", "images"), network, rows(*[i] * 3)) for i in range(2)]
    other = batcher.submit_to(("b", "images"), Slow(), rows(1))
    network.gate.set()
    for work in works:
        with pytest.raises(RuntimeError, match="out of memory"):
            batcher.wait(work, 60)
    assert torch.equal(batcher.wait(other, 60), rows(2))
    assert waiting_rows(batcher) == 0


def test_a_batch_waits_until_it_is_full(batcher: BatcherWithModels, monkeypatch: pytest.MonkeyPatch) -> None:
    """3 of 4 rows are there and a fourth is pending: the batch waits, although 3 exceed the 1 that is
    missing.
    """
    monkeypatch.setattr(batches, "MAX_BATCH_DELAY_SECONDS", 600.0)
    batcher._batch_seconds = 1_000.0
    network = Slow()
    with batcher.pending(("a", "images")), batcher.pending(("a", "images")):
        first = batcher.submit_to(("a", "images"), network, rows(1, 2, 3))
        assert not network.begun.wait(0.2)
        batcher.wait(batcher.submit_to(("a", "images"), network, rows(4)), 60)
        batcher.wait(first, 60)
    assert network.batches == [[1, 2, 3, 4]]


# --- several threads ---


@pytest.fixture
def pair() -> Iterator[BatcherWithModels]:
    batcher = BatcherWithModels(workers=2)
    yield batcher
    batcher.close()


class Counting(Slow):
    """Model that records torch's thread counts."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []
        self.names: list[str] = []

    def __call__(self, rows: Tensor) -> Tensor:
        self.names.append(threading.current_thread().name)
        self.threads.append(torch.get_num_threads())
        return super().__call__(rows)


def test_single_work_gets_all_processors_and_concurrent_work_a_share() -> None:
    default = torch.get_num_threads()
    torch.set_num_threads(2)
    batcher = BatcherWithModels(workers=2)
    try:
        network = Counting()
        for i in range(3):
            batcher.wait(batcher.submit_to(("a", "images"), network, rows(i)), 60)
        assert network.threads == [2, 2, 2]
        first, second = Counting(), Counting()
        alone = held_up(batcher, first)
        second.gate.clear()
        beside = batcher.submit_to(("b", "images"), second, rows(1))
        assert second.begun.wait(60)  # While the first one is being computed.
        third = batcher.submit_to(("c", "images"), Slow(), rows(2))
        time.sleep(0.1)
        assert not third.taken  # At most one per processor at a time.
        for one in (first, second):
            one.gate.set()
        for work in (alone, beside, third):
            batcher.wait(work, 60)
        assert (first.threads, second.threads) == ([2], [1])
        assert torch.get_num_threads() == 2
    finally:
        batcher.close()
        torch.set_num_threads(default)


def test_concurrent_work_runs_in_parallel(pair: BatcherWithModels) -> None:
    """The other image is being decoded, or was just decoded as the last one of its request."""
    network = Counting()
    lane = ("a", "images")
    with pair.pending(lane) as arrival:
        pair.wait(pair.submit_to(lane, network, rows(1)), 60)
        with pair.pending(lane) as other:
            pair.wait(pair.submit_to(lane, network, rows(2), arrival), 60)
        pair.wait(pair.submit_to(lane, network, rows(3), other), 60)
    assert [name == "compute" for name in network.names] == [False, False, True]


class OnlyAlone(BatcherWithModels):
    """Batcher whose threads for concurrent work check the queue at the wrong moments."""

    def _is_concurrent(self) -> bool:
        return False


def test_a_withdrawal_wakes_the_thread_for_single_work() -> None:
    batcher = OnlyAlone(workers=2)
    try:
        with batcher._changed:  # Both at once: neither is ever alone.
            first, second = (batcher.submit_to((name, "images"), Slow(), rows(1)) for name in "ab")
        time.sleep(0.05)  # Both wait.
        assert batcher.withdraw(first)
        assert torch.equal(batcher.wait(second, 60), rows(2))
    finally:
        batcher.close()


def test_slices_that_finish_out_of_order_return_in_order(pair: BatcherWithModels) -> None:
    begun = [threading.Event(), threading.Event()]
    ends = [threading.Event(), threading.Event()]

    def network(some: Tensor) -> Tensor:
        number = int(some[0, 0]) // 4
        begun[number].set()
        assert ends[number].wait(60)
        return some + 1

    work = pair.submit_to(("a", "images"), network, rows(*range(8)))
    assert all(event.wait(60) for event in begun)
    ends[1].set()
    while not work.parts:
        time.sleep(0.001)
    ends[0].set()
    assert torch.equal(pair.wait(work, 60), rows(*range(1, 9)))


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_in_both_slices_is_reported_once(pair: BatcherWithModels) -> None:
    network = Slow()
    network.gate.clear()
    network.error = RuntimeError("out of memory")
    work = pair.submit_to(("a", "images"), network, rows(*range(8)))
    while work.taken < 8 or waiting_rows(pair):  # Both are being computed.
        time.sleep(0.001)
    other = pair.submit_to(("b", "images"), Slow(), rows(1))
    network.gate.set()
    with pytest.raises(RuntimeError, match="out of memory"):
        pair.wait(work, 60)
    assert torch.equal(pair.wait(other, 60), rows(2))


def test_concurrent_requests_get_their_own_rows(pair: BatcherWithModels) -> None:
    networks = [Slow() for _ in range(3)]

    def submit_and_wait(i: int) -> None:
        given = rows(*range(i, i + 1 + i % 6))
        lane = (str(i % 3), "images")
        with pair.pending(lane) as arrival:
            work = pair.submit_to(lane, networks[i % 3], given, arrival if i % 2 else None)
        assert torch.equal(pair.wait(work, 60), given + 1)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(submit_and_wait, range(400)))
    counts = pair.counts()
    assert counts.rows["images"] == sum(1 + i % 6 for i in range(400))
    assert waiting_rows(pair) == 0


def test_closing_fails_waiting_requests() -> None:
    batcher, network = BatcherWithModels(workers=1), Slow()
    held_up(batcher, network)
    waiting = batcher.submit_to(("a", "images"), network, rows(1))
    batcher.close()
    network.gate.set()
    with pytest.raises(ServerBusy):
        batcher.wait(waiting, 60)
    with pytest.raises(ServerBusy):
        batcher.submit_to(("a", "images"), network, rows(1))


def test_long_prompts_make_small_batches() -> None:
    sizes: list[int] = []
    made = Batcher({"images": 8, "prompts": 32}, 1, lambda lane, rows: (sizes.append(len(rows)), rows)[1])
    for tokens, size in ((2, 32), (16, 32), (32, 16), (77, 6), (1_000, 1)):
        sizes.clear()
        made.wait(made.submit(("model", "prompts"), torch.zeros(32, tokens, dtype=torch.int64)), 60)
        assert sizes[0] == max(sizes) == size
    made.close()


def test_large_images_make_small_batches() -> None:
    sizes: list[int] = []
    made = Batcher({"images": 8, "prompts": 2}, 1, lambda lane, rows: (sizes.append(len(rows)), rows)[1])
    for side in (32, 224, 448, 1_024):
        sizes.clear()
        item = made.submit(("model", "images"), torch.zeros(16, side, side, 3, dtype=torch.uint8))
        made.wait(item, 60)
        assert sizes == [{32: 8, 224: 8, 448: 2, 1_024: 1}[side]] * {32: 2, 224: 2, 448: 8, 1_024: 16}[side]
    made.close()
