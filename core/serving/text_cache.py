"""Features of texts, kept under a budget of bytes: after the network that made them may be gone."""

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

Texts = tuple[str, ...]
"""The sentences of one class."""
OVERHEAD = 1_000
"""Bytes of a tensor, its key and their places beside its numbers, rounded up."""
A_CLASS = 150
"""Bytes of a class in a key, beside its sentences, rounded up."""
MAX_BESIDE = 4


def texts_bytes(texts: Texts) -> int:
    """Return the memory of the sentences of one class: 1 to 4 bytes a character, and their objects."""
    return sum(map(sys.getsizeof, texts)) + 8 * len(texts)


@dataclass(frozen=True)
class Head:
    """The classifier of a list of classes. Nobody changes it."""

    features: Tensor
    """[C, D], normalised."""
    _beside: dict[Hashable, Tensor] = field(default_factory=dict, compare=False)

    def beside(self, key: Hashable, make: Callable[[Tensor], Tensor]) -> Tensor:
        """[C] that is made of the features, for the last few keys remembered as long as they are."""
        known = self._beside.get(key)
        if known is None:
            known = make(self.features)
            if len(self._beside) >= MAX_BESIDE:
                self._beside.clear()
            self._beside[key] = known
        return known


@dataclass
class TextCounts:
    """Since the start; `rows`, `heads` and `bytes` are those that are held now."""

    rows: int = 0
    heads: int = 0
    bytes: int = 0
    hits: int = 0
    """Heads that were there as a whole."""
    misses: int = 0
    encoded: int = 0
    """Classes whose texts went through a network."""
    dropped: int = 0


_Key = tuple[str, str, Hashable]
"""`row` or `head`, the network's key, the texts."""


class TextCache:
    """The least recently used goes first. Kept are the row of each class, and the head that a list of
    classes makes, so that nothing is put together for a repeated request."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, tuple[Tensor | Head, int]] = OrderedDict()
        self._coming: dict[tuple[str, Texts], Future[Mapping[Texts, Tensor]]] = {}
        self._counts = TextCounts()

    def head(
        self, network: str, texts: tuple[Texts, ...], encode: Callable[[Sequence[Texts]], Tensor]
    ) -> Head:
        """Of `texts`, by the network with this key.

        Args:
            encode: from texts that are not there, each once, to their rows [M, D]. What another is encoding
                is waited for.

        Raises whatever `encode` raises; the next one who asks tries again.
        """
        key = ("head", network, texts)
        with self._lock:
            known = self._get(key)
            self._counts.hits += known is not None
            self._counts.misses += known is None
        if isinstance(known, Head):
            return known
        rows = self._rows(network, list(dict.fromkeys(texts)), encode)
        head = Head(torch.stack([rows[one] for one in texts]))
        self._keep(key, head, head.features.nbytes + len(texts) * MAX_BESIDE * 4, texts)
        return head

    def forget(self, where: Callable[[str], bool]) -> None:
        """What networks made whose key fits."""
        with self._lock:
            for key in [key for key in self._kept if where(key[1])]:
                self._drop(key)

    def counts(self) -> TextCounts:
        with self._lock:
            heads = sum(key[0] == "head" for key in self._kept)
            return replace(self._counts, heads=heads, rows=len(self._kept) - heads)

    def _rows(
        self, network: str, texts: Sequence[Texts], encode: Callable[[Sequence[Texts]], Tensor]
    ) -> dict[Texts, Tensor]:
        rows: dict[Texts, Tensor] = {}
        mine: Future[Mapping[Texts, Tensor]] = Future()
        missing: list[Texts] = []
        others: list[tuple[Texts, Future[Mapping[Texts, Tensor]]]] = []
        with self._lock:
            for one in texts:
                known = self._get(("row", network, one))
                coming = self._coming.get((network, one))
                if isinstance(known, Tensor):
                    rows[one] = known
                elif coming is not None:
                    others.append((one, coming))
                else:
                    self._coming[network, one] = mine
                    missing.append(one)
        if missing:
            rows.update(self._encoded(network, missing, encode, mine))
        rows.update((one, coming.result()[one]) for one, coming in others)
        return rows

    def _encoded(
        self,
        network: str,
        missing: Sequence[Texts],
        encode: Callable[[Sequence[Texts]], Tensor],
        mine: Future[Mapping[Texts, Tensor]],
    ) -> Mapping[Texts, Tensor]:
        try:
            # Copies: a row of a batch would keep the whole batch.
            encoded = dict(zip(missing, (row.clone() for row in encode(missing)), strict=True))
        except BaseException as error:
            self._arrived(network, missing)
            mine.set_exception(error)
            raise
        for one, row in encoded.items():
            self._keep(("row", network, one), row, row.nbytes, [one])
        self._arrived(network, missing)
        mine.set_result(encoded)
        with self._lock:
            self._counts.encoded += len(missing)
        return encoded

    def _arrived(self, network: str, texts: Sequence[Texts]) -> None:
        with self._lock:
            for one in texts:
                del self._coming[network, one]

    def _get(self, key: _Key) -> Tensor | Head | None:
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def _keep(self, key: _Key, value: Tensor | Head, size: int, texts: Sequence[Texts]) -> None:
        size += OVERHEAD + sum(A_CLASS + texts_bytes(one) for one in texts)
        with self._lock:
            if key in self._kept or size > self.budget_bytes:
                return
            self._kept[key] = value, size
            self._counts.bytes += size
            while self._counts.bytes > self.budget_bytes:
                self._drop(next(iter(self._kept)))
                self._counts.dropped += 1

    def _drop(self, key: _Key) -> None:
        _, size = self._kept.pop(key)
        self._counts.bytes -= size
