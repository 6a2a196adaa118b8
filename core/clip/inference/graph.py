"""The graph of nearest neighbours among images, and random walks with restarts on it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NEIGHBOURS, WIDTH, RESTART = 10, 0.1, 0.3
"""Neighbours of an image in the graph, width of the edge weights (cosine), and probability of a restart."""
STEPS = 30
"""Maximum number of steps of a walk. Fewer than 3 walks in 100,000 would be longer."""
BLOCK = 1024
"""Number of rows of a cosine matrix that are in memory at a time."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest neighbours of each of N rows, at most NEIGHBOURS."""

    columns: Ints
    """[N, k], rows."""
    values: Floats
    """[N, k], cosines."""

    @classmethod
    def among(cls, features: Floats) -> "Neighbours":
        """Search among rows [N, D], normalised."""
        return cls.between(features, features, own=0)

    @classmethod
    def between(cls, rows: Floats, features: Floats, own: int | None = None) -> "Neighbours":
        """Search the neighbours of `rows` [R, D] among `features` [N, D].

        Args:
            own: position in `features` at which `rows` begin, so that no row is its own neighbour. None:
                they are not among `features`.
        """
        count = len(rows)
        k = max(0, min(NEIGHBOURS, len(features) - (own is not None)))
        columns, values, first = np.empty((count, k), np.int64), np.empty((count, k), np.float32), 0
        for cosine in cosines(rows, features) if k else ():
            mine = np.arange(len(cosine))
            if own is not None:
                cosine[mine, own + first + mine] = -np.inf
            # One pass over each row, unlike `argpartition`, which takes most of the time.
            best = torch.from_numpy(cosine).topk(k, dim=1, sorted=False)
            columns[first : first + len(cosine)] = best.indices.numpy()
            values[first : first + len(cosine)] = best.values.numpy()
            first += len(cosine)
        return cls(columns, values)

    def after(self, rows: Floats, features: Floats) -> "Neighbours":
        """Return the neighbours in a larger graph: `rows` [R, D], then the N rows of this graph.

        Only cosines with the new rows are computed.

        Args:
            features: [N, D], of this graph.
        """
        if not len(rows):
            return self
        together = np.concatenate([rows, features]).astype(np.float32)
        if len(features) <= NEIGHBOURS:
            return Neighbours.among(together)
        new = Neighbours.between(together[: len(rows)], together, own=0)
        other = Neighbours.between(features, together[: len(rows)])
        columns = np.concatenate([self.columns + len(rows), other.columns], axis=1)
        values = np.concatenate([self.values, other.values], axis=1)
        best = np.argpartition(-values, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
        return Neighbours(
            np.concatenate([new.columns, np.take_along_axis(columns, best, axis=1)]),
            np.concatenate([new.values, np.take_along_axis(values, best, axis=1)]),
        )

    def steps(self) -> sparse.csr_matrix:
        """Return [N, N]: the normalised graph of mutual or one-sided neighbours."""
        count, k = self.columns.shape
        if k < 1:
            return sparse.csr_matrix((count, count), dtype=np.float32)
        typical = np.median(self.values.min(axis=1))
        weights = np.exp((self.values - typical) / WIDTH)
        one_way = sparse.csr_matrix(
            (weights.ravel(), self.columns.ravel(), np.arange(0, count * k + 1, k)), (count, count)
        )
        both = one_way.maximum(one_way.T)
        root = sparse.diags(1 / np.sqrt(np.asarray(both.sum(axis=1)).ravel()))
        return (root @ both @ root).tocsr().astype(np.float32)

    def density(self, k: int) -> Floats:
        """Return [N], the mean cosine of the k nearest rows, including the row itself."""
        own = np.ones((len(self.values), 1), np.float32)
        near = np.concatenate([own, -np.sort(-self.values, axis=1)], axis=1)
        mean: Floats = near[:, :k].mean(axis=1)
        return mean


def walk(step: sparse.csr_matrix, start: Floats) -> Floats:
    """Return [N, K], visits of each row by walks that start in the first rows, with weights [S, K]."""
    visits = np.zeros((step.shape[0], start.shape[1]), np.float32)
    visits[: len(start)] = start
    first = visits.copy()
    for _ in range(STEPS):
        visits = (1 - RESTART) * (step @ visits)
        visits += first
    return visits


def returns(step: sparse.csr_matrix, rows: Ints) -> Floats:
    """Return [R], how often walks that start in each of these rows visit it again."""
    found = np.empty(len(rows), np.float32)
    for first in range(0, len(rows), 64):
        some = rows[first : first + 64]
        start = np.zeros((step.shape[0], len(some)), np.float32)
        start[some, np.arange(len(some))] = 1
        found[first : first + 64] = walk(step, start)[some, np.arange(len(some))]
    return found


def cosines(x: Floats, y: Floats | None = None) -> Iterator[Floats]:
    """Yield the cosines of rows [N, D] with those of `y`, or with each other, in blocks of rows."""
    y = x if y is None else y
    for first in range(0, len(x), BLOCK):
        yield x[first : first + BLOCK] @ y.T


def unit(rows: Floats) -> Floats:
    """Normalise rows."""
    normalised: Floats = rows / (np.linalg.norm(rows, axis=-1, keepdims=True) + 1e-9)
    return normalised


def logarithm(visits: Floats) -> Floats:
    """Return the logarithm of visits, which may be 0."""
    found: Floats = np.log(np.maximum(visits, 0) + 1e-9)
    return found
