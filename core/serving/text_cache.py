"""LRU caches of prompt features and of requests' classifiers, each with a budget of bytes.

Entries may outlive the model that computed them.
"""

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from core.clip.inference.request_rule import RequestKind, RequestRule
from core.serving.names import Prompts, ResolvedNames
from core.serving.types import ClassName

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
TEXT_CACHE_BYTES = 250_000_000
"""Memory for features and classifiers of all class names, about 5 kB per class name."""
OVERHEAD = 1_000
"""Bytes of a tensor object, its key and its cache entry, without the numbers (upper bound)."""
LONGER = 4
"""A request with N uncached classes waits for another one that is encoding the same class, unless that
request encodes more than LONGER * N classes."""
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
        self.hits = 0
        self.evicted = 0
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
            self.hits += 1
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
                self.evicted += 1
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


ClassifierKey = tuple[str, str, tuple[ClassName, ...], tuple[str, ...], float, RequestKind | None]
"""Cache key: the model's key, the model's name, the class names, the templates, the balance and the rule."""


@dataclass(frozen=True)
class TextCounts:
    """Counters since the start; `rows`, `classifiers` and `bytes` are present values."""

    rows: int
    classifiers: int
    bytes: int
    hits: int
    """Requests whose class names were all cached."""
    misses: int
    encoded: int
    """Classes whose prompts a model encoded."""
    evicted: int


@dataclass(frozen=True)
class _Pending:
    """The rows that a call is encoding."""

    rows: Future[Mapping[Prompts, Tensor]]
    classes: int


class TextCache:
    """Features [D] of classes, by model key and prompts, and the classifiers of whole requests.

    Concurrent requests encode each class once, except that a short list does not wait for a long one.
    """

    def __init__(self, budget_bytes: int) -> None:
        # Half of the budget each, because a classifier repeats the rows of its classes.
        self.kept: LruCache[tuple[str, Prompts], Tensor] = LruCache(budget_bytes // 2)
        self.classifiers: LruCache[ClassifierKey, RequestClassifier] = LruCache(budget_bytes // 2)
        self.hits = 0
        """Calls whose prompts were all cached."""
        self.misses = 0
        self.encoded = 0
        """Classes whose prompts a model encoded."""
        self._lock = threading.Lock()
        self._pending: dict[tuple[str, Prompts], _Pending] = {}

    def counts(self) -> TextCounts:
        """Return the counters of both caches."""
        rows, classifiers = self.kept, self.classifiers
        return TextCounts(
            rows=len(rows),
            classifiers=len(classifiers),
            bytes=rows.bytes + classifiers.bytes,
            hits=classifiers.hits + self.hits,
            misses=self.misses,
            encoded=self.encoded,
            evicted=rows.evicted + classifiers.evicted,
        )

    def forget(self, where: Callable[[str], bool]) -> None:
        """Drop the text of models whose key satisfies `where`."""
        self.kept.forget(lambda key: where(key[0]))
        self.classifiers.forget(lambda key: where(key[0]))

    def rows(
        self, model: str, prompts: Sequence[Prompts], encode: Callable[[Sequence[Prompts]], Tensor]
    ) -> dict[Prompts, Tensor]:
        """Return the features of each element of `prompts`.

        Rows that another thread is encoding are waited for, unless its list is much longer than this one's.
        If that thread fails, perhaps because its owner has no more room, this call encodes them itself.

        Args:
            model: key of the model that encodes.
            encode: computes rows [M, D] of the missing prompts, which are distinct.

        Raises any error of `encode`; the next call tries again.
        """
        rows: dict[Prompts, Tensor] = {}
        uncached: list[Prompts] = []
        missing: list[Prompts] = []
        others: list[tuple[Prompts, Future[Mapping[Prompts, Tensor]]]] = []
        with self._lock:
            for class_prompts in dict.fromkeys(prompts):
                row = self.kept.get((model, class_prompts))
                if row is None:
                    uncached.append(class_prompts)
                else:
                    rows[class_prompts] = row
            mine = _Pending(Future(), len(uncached))
            for class_prompts in uncached:
                pending = self._pending.setdefault((model, class_prompts), mine)
                if pending is mine or pending.classes > LONGER * mine.classes:
                    missing.append(class_prompts)
                else:
                    others.append((class_prompts, pending.rows))
            if uncached:
                self.misses += 1
            else:
                self.hits += 1
        if missing:
            rows.update(self._encode(model, missing, encode, mine))
        failed = []
        for class_prompts, future in others:
            if future.exception() is None:
                rows[class_prompts] = future.result()[class_prompts]
            else:
                failed.append(class_prompts)
        if failed:
            rows.update(self.rows(model, failed, encode))
        return rows

    def _encode(
        self,
        model: str,
        missing: Sequence[Prompts],
        encode: Callable[[Sequence[Prompts]], Tensor],
        mine: _Pending,
    ) -> Mapping[Prompts, Tensor]:
        try:
            # Copied, because a view would keep the whole batch in memory.
            encoded = dict(zip(missing, (row.clone() for row in encode(missing)), strict=True))
        except BaseException as error:
            self._end_pending(model, missing, mine)
            mine.rows.set_exception(error)
            raise
        for class_prompts, row in encoded.items():
            size = row.nbytes + OVERHEAD + CLASS_OVERHEAD + prompts_bytes(class_prompts)
            self.kept.put((model, class_prompts), row, size)
        self._end_pending(model, missing, mine)
        mine.rows.set_result(encoded)
        with self._lock:
            self.encoded += len(missing)
        return encoded

    def _end_pending(self, model: str, prompts: Sequence[Prompts], mine: _Pending) -> None:
        with self._lock:
            for class_prompts in prompts:
                if self._pending.get((model, class_prompts)) is mine:  # not a longer list's
                    del self._pending[model, class_prompts]
