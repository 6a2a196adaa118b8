"""How much may be waited for at once. Who comes then is told to come again: a queue never grows."""

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from core.errors import ClipCiteError

Model = tuple[str, str]
"""Whose, and how it was asked for."""
SOONEST, LATEST = 1, 30  # seconds after which to ask again


class ServerBusy(ClipCiteError):
    code = "busy"
    status = 503

    def __init__(self, detail: str, retry_after: int = 5) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class ConcurrencyLimiter:
    """At most so many images are inside, and at most half of them for one and the same model: a flood of
    requests for one leaves room for the others. A request is let in whole, and alone it always is."""

    def __init__(self, most: int, seconds_to_wait: Callable[[], float]) -> None:
        self.most = most
        self._seconds_to_wait = seconds_to_wait
        self._lock = threading.Lock()
        self._inside: Counter[Model] = Counter()
        self._refused = 0

    def check(self) -> None:
        """Raises ServerBusy if nothing at all would be let in now."""
        with self._lock:
            full = self._inside.total() >= self.most
            self._refused += full
        if full:
            self._refuse()

    @contextmanager
    def acquire(self, costs: Mapping[Model, int]) -> Iterator[None]:
        """`costs`: images, by model. Raises ServerBusy."""
        with self._lock:
            full = self._inside.total() > 0 and self._inside.total() + sum(costs.values()) > self.most
            per_model_limit = any(
                self._inside[model] and self._inside[model] + cost > max(1, self.most // 2)
                for model, cost in costs.items()
            )
            if full or per_model_limit:
                self._refused += 1
            else:
                self._inside.update(costs)
        if full or per_model_limit:
            self._refuse()
        try:
            yield
        finally:
            with self._lock:
                self._inside.subtract(costs)
                self._inside += Counter()  # drops those at 0

    @property
    def images(self) -> int:
        with self._lock:
            return self._inside.total()

    @property
    def refused(self) -> int:
        with self._lock:
            return self._refused

    def _refuse(self) -> None:
        wait = min(max(math.ceil(self._seconds_to_wait()), SOONEST), LATEST)
        raise ServerBusy(f"Too many classifications are waiting. Ask again in {wait} s.", wait)
