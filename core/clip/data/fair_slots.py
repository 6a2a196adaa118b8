"""A semaphore that serves its waiters in order, except that an owner beyond half of it lets others pass."""

import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(eq=False)
class _Waiter:
    owner: str
    amount: int
    granted: threading.Event = field(default_factory=threading.Event)


class FairSlots:
    """A number of slots, of which a caller holds one or more. Thread-safe.

    More than there are can be held by one caller alone. Without other waiters, an owner may hold all.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()
        self._waiting: deque[_Waiter] = deque()

    @contextmanager
    def hold(self, owner: str, amount: int = 1) -> Iterator[None]:
        """Hold slots, after waiting for them."""
        self.acquire(owner, amount)
        try:
            yield
        finally:
            self.release(owner, amount)

    def try_acquire(self, owner: str, amount: int = 1) -> bool:
        """Take slots if they are free and no other caller waits for them."""
        with self._lock:
            if self._waiting or not self._fits(amount):
                return False
            self._held[owner] += amount
            return True

    def acquire(self, owner: str, amount: int = 1) -> None:
        """Wait for slots and take them."""
        waiter = _Waiter(owner, amount)
        with self._lock:
            self._waiting.append(waiter)
            self._grant()
        waiter.granted.wait()

    def release(self, owner: str, amount: int = 1) -> None:
        """Give slots back."""
        with self._lock:
            self._held[owner] -= amount
            self._held += Counter()  # drops owners at 0
            self._grant()

    def _fits(self, amount: int) -> bool:
        held = self._held.total()
        return held == 0 or held + amount <= self.total

    def _grant(self) -> None:
        while self._waiting:
            below_half = (waiter for waiter in self._waiting if 2 * self._held[waiter.owner] < self.total)
            first = next(below_half, self._waiting[0])
            if not self._fits(first.amount):
                return
            self._waiting.remove(first)
            self._held[first.owner] += first.amount
            first.granted.set()
