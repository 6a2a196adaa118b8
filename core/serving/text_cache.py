"""LRU caches of prompt features and of requests' classifiers, each with a budget of bytes.

Entries may outlive the model that computed them.
"""

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from torch import Tensor

from core.admission import ServerBusy
from core.clip.inference.request_rule import RequestRule
from core.serving.names import Prompts, ResolvedNames
from core.serving.types import ClassName

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
TEXT_CACHE_BYTES = 250_000_000
"""Memory for features and classifiers of all class names, about 5 kB per class name."""
OVERHEAD = 1_000
"""Bytes of a tensor object, its key and its cache entry, without the numbers (upper bound)."""
CLASS_OVERHEAD = 150
"""Bytes per class in a key, without its prompts (upper bound)."""


def prompts_bytes(prompts: Prompts) -> int:
    """Return the memory of the prompts of one class: 1 to 4 bytes per character, and their objects."""
    return sum(map(sys.getsizeof, prompts)) + 8 * len(prompts)


class LruCache(Generic[Key, Value]):
    """A thread-safe LRU cache of values that are cheap to compute again.

    A value larger than the whole budget is not kept.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.bytes = 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, tuple[Value, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key) -> Value | None:
        """Return the value for the key, or None."""
        with self._lock:
            entry = self._kept.get(key)
            if entry is None:
                return None
            self._kept.move_to_end(key)
            return entry[0]

    def put(self, key: Key, value: Value, size: int) -> Value:
        """Keep a value of `size` bytes. Return the value for the key, which may be another thread's."""
        with self._lock:
            if key in self._kept:
                return self._kept[key][0]
            if size <= self.budget_bytes:
                self._kept[key] = value, size
                self.bytes += size
            while self.bytes > self.budget_bytes:
                _, (_, freed) = self._kept.popitem(last=False)
                self.bytes -= freed
            return value

    def forget(self, where: Callable[[Key], bool]) -> None:
        """Drop the values whose key satisfies `where`."""
        with self._lock:
            for key in [key for key in self._kept if where(key)]:
                self.bytes -= self._kept.pop(key)[1]


@dataclass(frozen=True)
class RequestClassifier:
    """The classifier of a request. Its tensors are never changed."""

    names: ResolvedNames
    text_features: Tensor
    """[C, D], normalised."""
    rule: RequestRule
    """The rule of the adapted model; that of a preview changes while its images are encoded."""

    @property
    def bytes(self) -> int:
        """Memory (upper bound), including the class names of the request, which are part of the key."""
        names = zip(self.names.names, self.names.prompts, strict=True)
        return (
            OVERHEAD
            + self.text_features.nbytes
            + self.rule.nbytes
            + sum(
                2 * CLASS_OVERHEAD + sys.getsizeof(name) + prompts_bytes(prompts) for name, prompts in names
            )
        )


ClassifierKey = tuple[str, str, tuple[ClassName, ...], tuple[str, ...], float]
"""Cache key: the model's key, the model's name, the class names, the templates and the balance."""


class TextCache:
    """Features [D] of classes, by model key and prompts, and the classifiers of whole requests."""

    def __init__(self, budget_bytes: int) -> None:
        # Half of the budget each, because a classifier repeats the rows of its classes.
        self.kept: LruCache[tuple[str, Prompts], Tensor] = LruCache(budget_bytes // 2)
        self.classifiers: LruCache[ClassifierKey, RequestClassifier] = LruCache(budget_bytes // 2)
        self._lock = threading.Lock()
        self._making: WeakValueDictionary[ClassifierKey, threading.Lock] = WeakValueDictionary()

    def forget(self, where: Callable[[str], bool]) -> None:
        """Drop the text of models whose key satisfies `where`."""
        self.kept.forget(lambda key: where(key[0]))
        self.classifiers.forget(lambda key: where(key[0]))

    def classifier(
        self, key: ClassifierKey, make: Callable[[], RequestClassifier], *, wait_seconds: float
    ) -> RequestClassifier:
        """Return the classifier for the key.

        Concurrent calls with the same key make it once. If that fails, the next one tries.

        Raises:
            ServerBusy: other calls take longer than `wait_seconds`.
            Exception: any error of `make`.
        """
        if (cached := self.classifiers.get(key)) is not None:
            return cached
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        if not making.acquire(timeout=wait_seconds):
            raise ServerBusy("The class names are being processed. Try again in a few seconds.")
        try:
            cached = self.classifiers.get(key)
            if cached is None:
                made = make()
                cached = self.classifiers.put(key, made, made.bytes)
            return cached
        finally:
            making.release()

    def rows(
        self, model: str, prompts: Sequence[Prompts], encode: Callable[[Sequence[Prompts]], Tensor]
    ) -> dict[Prompts, Tensor]:
        """Return the features of each element of `prompts`.

        Args:
            model: key of the model that encodes.
            encode: computes rows [M, D] of the missing prompts, which are distinct.

        Raises any error of `encode`.
        """
        rows: dict[Prompts, Tensor] = {}
        missing: list[Prompts] = []
        for class_prompts in dict.fromkeys(prompts):
            row = self.kept.get((model, class_prompts))
            if row is None:
                missing.append(class_prompts)
            else:
                rows[class_prompts] = row
        # Copied, because a view would keep the whole batch in memory.
        encoded = [row.clone() for row in encode(missing)] if missing else []
        for class_prompts, row in zip(missing, encoded, strict=True):
            size = row.nbytes + OVERHEAD + CLASS_OVERHEAD + prompts_bytes(class_prompts)
            self.kept.put((model, class_prompts), row, size)
            rows[class_prompts] = row
        return rows
