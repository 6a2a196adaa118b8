"""Choice of the images that a person labels next."""

import math
import struct
from array import array
from base64 import b64decode
from collections.abc import Sequence
from operator import mul

from clipcite.sorting.log import Answer


def which_next(answers: Sequence[Answer | None], n: int) -> list[int]:
    """Return the positions of the images whose labels teach most: unsure, and unlike each other.

    The first image has the smallest margin, the difference between its two highest probabilities. Each
    further one has the largest product of 1 - margin and the distance from the images chosen so far
    (1 - cosine of the features). It was the best of the compared orders (benchmarks/plans/which-next.md).

    Args:
        answers: per image its two most likely classes and its features; None for an image to leave out.
        n: maximum number of positions.
    """
    doubts: dict[int, float] = {}
    vectors: dict[int, array[float]] = {}
    for position, answer in enumerate(answers):
        if answer is not None and answer.features is not None:
            probabilities = [probability for _, probability in answer.ranked]
            doubts[position] = 1 - probabilities[0] + sum(probabilities[1:2])
            data = b64decode(answer.features)
            values = struct.unpack(f"<{len(data) // 2}e", data)
            length = math.hypot(*values)
            vectors[position] = array("f", (value / length for value in values))
    distances = dict.fromkeys(doubts, 2.0)
    chosen: list[int] = []
    while doubts and len(chosen) < n:
        best = max(doubts, key=lambda position: doubts[position] * distances[position])
        chosen.append(best)
        del doubts[best]
        for position in doubts:
            distance = 1 - sum(map(mul, vectors[best], vectors[position]))
            distances[position] = min(distances[position], distance)
    return chosen
