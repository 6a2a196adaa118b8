"""Caches within a budget of bytes: features of prompts, after the model that made them may be gone."""

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.prompts import all_class_prompts, class_indices
from core.serving.types import ClassName

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
Prompts = tuple[str, ...]
"""The sentences of one class."""
OVERHEAD = 1_000
"""Bytes of a tensor, its key and their places beside its numbers, rounded up."""
A_CLASS = 150
"""Bytes of a class in a key, beside its sentences, rounded up."""


def prompts_bytes(prompts: Prompts) -> int:
    """Return the memory of the sentences of one class: 1 to 4 bytes a character, and their objects."""
    return sum(map(sys.getsizeof, prompts)) + 8 * len(prompts)


class LruCache(Generic[Key, Value]):
    """Values by key, which cost little to make again. The least recently used are evicted first; one above
    the whole budget is not kept."""

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
        with self._lock:
            known = self._kept.get(key)
            if known is None:
                return None
            self.hits += 1
            self._kept.move_to_end(key)
            return known[0]

    def put(self, key: Key, value: Value, size: int) -> Value:
        """Keep a value of so many bytes. Return the value for the key, which another thread may have put."""
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
        """Drop the values whose key fits."""
        with self._lock:
            for key in [key for key in self._kept if where(key)]:
                self.bytes -= self._kept.pop(key)[1]


@dataclass(frozen=True)
class TextCounts:
    """Since the start; `rows`, `heads` and `bytes` are those that are held now."""

    rows: int
    heads: int
    bytes: int
    hits: int
    """Requests all of whose class names were known."""
    misses: int
    encoded: int
    """Classes whose prompts went through a model."""
    evicted: int


class TextCache:
    """Features [D] of each class by model key and prompts. Each is encoded once, also if many ask."""

    def __init__(self, budget_bytes: int) -> None:
        self.kept: LruCache[tuple[str, Prompts], Tensor] = LruCache(budget_bytes)
        self.hits = 0
        """Calls all of whose prompts were there."""
        self.misses = 0
        self.encoded = 0
        """Classes whose prompts went through a model."""
        self._lock = threading.Lock()
        self._coming: dict[tuple[str, Prompts], Future[Mapping[Prompts, Tensor]]] = {}

    def rows(
        self, model: str, prompts: Sequence[Prompts], encode: Callable[[Sequence[Prompts]], Tensor]
    ) -> dict[Prompts, Tensor]:
        """Features of each of `prompts`, by the model with this key.

        Args:
            encode: from prompts that are not there, each once, to their rows [M, D]. What another thread is
                encoding is waited for.

        Raises whatever `encode` raises; the next one who asks tries again.
        """
        rows: dict[Prompts, Tensor] = {}
        mine: Future[Mapping[Prompts, Tensor]] = Future()
        missing: list[Prompts] = []
        others: list[tuple[Prompts, Future[Mapping[Prompts, Tensor]]]] = []
        with self._lock:
            for one in dict.fromkeys(prompts):
                known = self.kept.get((model, one))
                coming = self._coming.get((model, one))
                if known is not None:
                    rows[one] = known
                elif coming is not None:
                    others.append((one, coming))
                else:
                    self._coming[model, one] = mine
                    missing.append(one)
            if missing or others:
                self.misses += 1
            else:
                self.hits += 1
        if missing:
            rows.update(self._encode(model, missing, encode, mine))
        rows.update((one, coming.result()[one]) for one, coming in others)
        return rows

    def _encode(
        self,
        model: str,
        missing: Sequence[Prompts],
        encode: Callable[[Sequence[Prompts]], Tensor],
        mine: Future[Mapping[Prompts, Tensor]],
    ) -> Mapping[Prompts, Tensor]:
        try:
            # Copies: a row of a batch would keep the whole batch.
            encoded = dict(zip(missing, (row.clone() for row in encode(missing)), strict=True))
        except BaseException as error:
            self._arrived(model, missing)
            mine.set_exception(error)
            raise
        for one, row in encoded.items():
            self.kept.put((model, one), row, row.nbytes + OVERHEAD + A_CLASS + prompts_bytes(one))
        self._arrived(model, missing)
        mine.set_result(encoded)
        with self._lock:
            self.encoded += len(missing)
        return encoded

    def _arrived(self, model: str, prompts: Sequence[Prompts]) -> None:
        with self._lock:
            for one in prompts:
                del self._coming[model, one]


# --- classifiers of whole requests ---


@dataclass(frozen=True)
class Names:
    names: list[str]
    classes: tuple[int, ...]
    """For each name its trained class, or `balance.NEW_CLASS`."""
    prompts: tuple[Prompts, ...]

    @property
    def kinds(self) -> dict[str, str]:
        return {
            name: "new" if c == NEW_CLASS else "trained"
            for name, c in zip(self.names, self.classes, strict=True)
        }


def resolve_class_names(
    asked: Sequence[ClassName],
    trained: Sequence[str],
    templates: Sequence[str],
    own_prompts: Mapping[str, Sequence[str]],
) -> Names:
    """Prompts are the request's; else the model's own for its names; else the templates."""
    names = [one.name for one in asked]
    of_names = all_class_prompts(names, templates, own_prompts)
    prompts = tuple(one.prompts or implied for one, implied in zip(asked, of_names, strict=True))
    return Names(names, tuple(class_indices(names, trained)), prompts)


@dataclass(frozen=True)
class Head:
    """The classifier of a request. Nobody changes it."""

    names: Names
    weights: Tensor
    """Classifier weights [C, D], normalised."""
    offsets: Tensor
    """[C], see `core.clip.inference.class_offsets`."""

    @property
    def bytes(self) -> int:
        """In memory, rounded up. The class names of the request, which are its key, are counted too."""
        names = zip(self.names.names, self.names.prompts, strict=True)
        return (
            OVERHEAD
            + self.weights.nbytes
            + self.offsets.nbytes
            + sum(2 * A_CLASS + sys.getsizeof(name) + prompts_bytes(prompts) for name, prompts in names)
        )


HeadKey = tuple[str, str, tuple[ClassName, ...], tuple[str, ...], float]
"""The model's key; as whose the names are understood, the names, the templates and the balance."""
