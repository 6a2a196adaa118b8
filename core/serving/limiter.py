"""Load shedding: bound the images and prompts in flight; beyond that 503 with `Retry-After`."""

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from core.admission import ServerBusy

PROMPTS_PER_IMAGE = 100
"""Number of prompts that take about as long as an image."""
MIN_RETRY_AFTER, MAX_RETRY_AFTER = 1, 30
"""Bounds of `Retry-After`, in seconds."""


class ConcurrencyLimiter:
    """A bound on the work in flight, and half of that per owner, which leaves room for other owners.

    The unit is an image. Each full PROMPTS_PER_IMAGE prompts that a text tower must encode count as one. A
    request is admitted as a whole. Without others in flight, it is always admitted.
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
        self._inside: Counter[str] = Counter()
        self._refused = 0

    def check(self) -> None:
        """Raise ServerBusy if no request would be admitted now."""
        with self._lock:
            full = self._inside.total() >= self.max_images
            self._refused += full
        if full:
            self._refuse()

    @contextmanager
    def acquire(self, owner: str, images: int, *, prompts: int = 0, held: int = 0) -> Iterator[None]:
        """Hold room for the work of a request.

        Args:
            images: number of images, once per model.
            prompts: number of prompts to encode.
            held: images for which the same request already holds room.

        Raises ServerBusy.
        """
        # More than a half would never fit next to other requests.
        cost = images + min(prompts // PROMPTS_PER_IMAGE, self.max_images // 2)
        if not cost:  # a request with room for its images needs no more
            yield
            return
        with self._lock:
            total, own = self._inside.total(), self._inside[owner]
            full = total > held and total + cost > self.max_images
            has_share = own > held and own + cost > max(1, self.max_images // 2)
            if full or has_share:
                self._refused += 1
            else:
                self._inside[owner] += cost
        if full or has_share:
            self._refuse()
        try:
            yield
        finally:
            with self._lock:
                self._inside[owner] -= cost
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
