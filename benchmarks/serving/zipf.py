"""Which of many models is asked for, and what the best possible memory for a few of them would have."""

from collections import OrderedDict
from collections.abc import Iterable

import numpy as np


def zipf_requests(models: int, requests: int, exponent: float, seed: int = 0) -> list[int]:
    """Numbers from 0 to models - 1: the k-th most popular has a share as 1 / k^exponent."""
    shares = np.arange(1, models + 1) ** -exponent
    generator = np.random.default_rng(seed)
    drawn: list[int] = generator.choice(models, size=requests, p=shares / shares.sum()).tolist()
    return drawn


def lru_hits(requests: Iterable[int], room: int) -> int:
    """How many of the requests, one after the other, find theirs among the `room` last used."""
    warm: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for model in requests:
        hits += model in warm
        warm[model] = None
        warm.move_to_end(model)
        if len(warm) > room:
            warm.popitem(last=False)
    return hits
