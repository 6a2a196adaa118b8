"""Load shedding: bound the images in flight; beyond that 503 with `Retry-After`."""

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from core.errors import ClipCiteError

Model = tuple[str, str]
"""Owner and reference of a model."""
MIN_RETRY_AFTER, MAX_RETRY_AFTER = 1, 30
"""Bounds of `Retry-After`, in seconds."""


class ServerBusy(ClipCiteError):
    """A request that is refused because of overload or shutdown."""

    code = "busy"
    status = 503

    def __init__(self, detail: str, retry_after: int = 5) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class ConcurrencyLimiter:
    """A bound on the images in flight, and half of that per model, which leaves room for other models.

    A request is admitted as a whole. Without others in flight, it is always admitted.
    """

    def __init__(self, max_images: int, seconds_to_wait: Callable[[], float]) -> None:
        """Make a limiter.

        Args:
            max_images: maximum number of images in flight.
            seconds_to_wait: returns an estimate of the queue's duration, for `Retry-After`.
        """
        self.max_images = max_images
        self._seconds_to_wait = seconds_to_wait
        self._lock = threading.Lock()
        self._inside: Counter[Model] = Counter()
        self._refused = 0

    def check(self) -> None:
        """Raise ServerBusy if no request would be admitted now."""
        with self._lock:
            full = self._inside.total() >= self.max_images
            self._refused += full
        if full:
            self._refuse()

    @contextmanager
    def acquire(self, costs: Mapping[Model, int]) -> Iterator[None]:
        """Hold room for the images of a request.

        Args:
            costs: number of images per model.

        Raises ServerBusy.
        """
        with self._lock:
            full = self._inside.total() > 0 and self._inside.total() + sum(costs.values()) > self.max_images
            per_model_limit = any(
                self._inside[model] and self._inside[model] + cost > max(1, self.max_images // 2)
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
        wait = min(max(math.ceil(self._seconds_to_wait()), MIN_RETRY_AFTER), MAX_RETRY_AFTER)
        raise ServerBusy(f"Too many classifications are waiting. Try again in {wait} s.", wait)
