"""Calls at the same time."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from core.store.errors import Conflict, ModelNotFound, NotFound

REFUSED = (NotFound, Conflict, ModelNotFound)
"""Errors of the loser of a race."""


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Run the calls in threads that start together. Return their results in order; raise other errors."""
    start = threading.Barrier(len(calls))
    results: list[Any] = [None] * len(calls)

    def run(number: int, call: Callable[[], Any]) -> None:
        start.wait()
        try:
            results[number] = call()
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
        assert not thread.is_alive()
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, REFUSED):
            raise result
    return results


@contextmanager
def meanwhile(*calls: Callable[[], object]) -> Iterator[None]:
    """Repeat each call in a thread of its own until the block ends. Then raise their first error."""
    ended = threading.Event()
    errors: list[BaseException] = []

    def run(call: Callable[[], object]) -> None:
        try:
            while not ended.wait(0.02):
                call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(600)
    assert errors == []
