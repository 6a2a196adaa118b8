"""Queues in which owners take turns, so that one owner's many pieces of work delay another's by one piece."""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Turns(Generic[T]):
    """A queue of waiting items. Each `pop` returns the oldest item of the next owner. Not thread-safe."""

    def __init__(self) -> None:
        self._owners: OrderedDict[str, deque[T]] = OrderedDict()
        """Items of each owner that has any. The first owner has the next turn."""

    def __bool__(self) -> bool:
        return bool(self._owners)

    def __iter__(self) -> Iterator[T]:
        for items in self._owners.values():
            yield from items

    def next(self) -> T:
        """Return the item that `pop` would return, and keep it in the queue."""
        return next(iter(self))

    def put(self, owner: str, item: T) -> None:
        """Add an item behind all others of its owner."""
        self._owners.setdefault(owner, deque()).append(item)

    def pop(self) -> T:
        """Remove and return the next item. Its owner is then the last one."""
        owner, items = self._owners.popitem(last=False)
        item = items.popleft()
        if items:
            self._owners[owner] = items
        return item

    def remove(self, owner: str, item: T) -> None:
        """Remove an item."""
        items = self._owners[owner]
        items.remove(item)
        if not items:
            del self._owners[owner]


class TurnThreads:
    """A pool of threads in which owners take turns."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        """Run the calls in these threads, which nothing else uses."""
        self._threads = threads
        self._waiting: Turns[tuple[Future[Any], Callable[[], Any]]] = Turns()
        self._lock = threading.Lock()

    def submit(self, owner: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function in a thread, as `ThreadPoolExecutor.submit` does, when it is the owner's turn."""
        future: Future[T] = Future()
        with self._lock:
            self._threads.submit(self._run_next)
            self._waiting.put(owner, (future, partial(function, *args, **kwargs)))
        return future

    def shutdown(self) -> None:
        """Refuse further calls, and return at once. Calls that wait are still run."""
        self._threads.shutdown(wait=False)

    def _run_next(self) -> None:
        with self._lock:
            future, call = self._waiting.pop()
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = call()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
