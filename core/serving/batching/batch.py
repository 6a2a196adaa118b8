"""The units of a batch."""

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch
from torch import Tensor

QueueKey = tuple[str, str]
"""The model's key, and `images` or `prompts`."""


@dataclass(eq=False)
class BatchItem:
    """Rows of one request, [n, ...]. `features` [n, D] when they are through."""

    lane: QueueKey
    rows: Tensor
    taken: int = 0
    parts: dict[int, Tensor] = field(default_factory=dict)
    """By the first row of each."""
    features: Future[Tensor] = field(default_factory=Future)

    @property
    def left(self) -> int:
        """Rows that are in no batch yet."""
        return len(self.rows) - self.taken

    def add(self, start: int, features: Tensor) -> None:
        """Of the rows from `start`; the last ones to come finish it. Under the batcher's lock."""
        self.parts[start] = features
        if sum(map(len, self.parts.values())) == len(self.rows):
            # A copy, since a part would keep the whole batch.
            self.features.set_result(torch.cat([self.parts[start] for start in sorted(self.parts)]))


@dataclass(frozen=True)
class Slice:
    """Rows of one request in a batch."""

    work: BatchItem
    start: int
    rows: Tensor


def left_of(works: Iterable[BatchItem]) -> int:
    return sum(work.left for work in works)


def take(works: deque[BatchItem], most: int) -> list[Slice]:
    """The next rows of a lane, as far as they fit together."""
    batch: list[Slice] = []
    shape = works[0].rows.shape[1:]
    while works and most > 0 and works[0].rows.shape[1:] == shape:
        work = works[0]
        rows = work.rows[work.taken : work.taken + most]
        batch.append(Slice(work, work.taken, rows))
        work.taken += len(rows)
        most -= len(rows)
        if not work.left:
            works.popleft()
    return batch
