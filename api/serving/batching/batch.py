"""Batch items, and their slices that form a batch."""

from collections.abc import Hashable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch
from torch import Tensor

from core.turns import Turns

QueueKey = tuple[Hashable, str]
"""A model, and `images` or `prompts`. Equal models share a queue."""


@dataclass(eq=False)
class BatchItem:
    """Rows [n, ...] of one request, and their features [n, D] once all rows are computed."""

    queue: QueueKey
    rows: Tensor
    owner: str
    taken: int = 0
    """Number of rows that already belong to a batch."""
    passed_over: bool = False
    """Whether a batch of the same queue or of another model was started while this item waited."""
    parts: dict[int, Tensor] = field(default_factory=dict)
    """Computed features, keyed by their first row."""
    features: Future[Tensor] = field(default_factory=Future)

    @property
    def left(self) -> int:
        """Number of rows that do not belong to a batch yet."""
        return len(self.rows) - self.taken

    def add(self, start: int, features: Tensor) -> None:
        """Add the features of the rows from `start`. The last part completes the item.

        The caller holds the batcher's lock.
        """
        self.parts[start] = features
        if sum(map(len, self.parts.values())) == len(self.rows):
            # A view instead of a copy would keep the whole batch in memory.
            self.features.set_result(torch.cat([self.parts[start] for start in sorted(self.parts)]))


@dataclass(frozen=True)
class Slice:
    """Rows of one request in a batch."""

    item: BatchItem
    start: int
    rows: Tensor


def rows_left(items: Iterable[BatchItem]) -> int:
    """Return the number of rows that do not belong to a batch yet."""
    return sum(item.left for item in items)


def take(items: Turns[BatchItem], max_rows: int) -> list[Slice]:
    """Remove and return the next rows of a queue: at most `max_rows`, all with the same shape.

    An item with rows left is then the last one of its owner.
    """
    batch: list[Slice] = []
    shape = items.next().rows.shape[1:]
    while items and max_rows > 0 and items.next().rows.shape[1:] == shape:
        item = items.pop()
        rows = item.rows[item.taken : item.taken + max_rows]
        batch.append(Slice(item, item.taken, rows))
        item.taken += len(rows)
        max_rows -= len(rows)
        if item.left:
            items.put(item.owner, item)
    return batch
