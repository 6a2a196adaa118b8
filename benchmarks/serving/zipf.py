"""Zipf-distributed requests, and the hit rate of an ideal LRU cache."""

from collections import OrderedDict
from collections.abc import Iterable

import numpy as np


def zipf_requests(models: int, requests: int, exponent: float, seed: int = 0) -> list[int]:
    """Draw numbers from 0 to models - 1. The k-th has a share proportional to 1 / k^exponent."""
    shares = np.arange(1, models + 1) ** -exponent
    generator = np.random.default_rng(seed)
    drawn: list[int] = generator.choice(models, size=requests, p=shares / shares.sum()).tolist()
    return drawn


def lru_hits(requests: Iterable[int], room: int) -> int:
    """Return the hits of an LRU cache with `room` entries on this sequence of requests."""
    warm: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for model in requests:
        hits += model in warm
        warm[model] = None
        warm.move_to_end(model)
        if len(warm) > room:
            warm.popitem(last=False)
    return hits
