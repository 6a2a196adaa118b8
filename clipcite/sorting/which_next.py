"""Choice of the images that a person labels next."""

from collections.abc import Sequence
from itertools import chain, zip_longest

from clipcite.sorting.log import Ranked


def which_next(answers: Sequence[Ranked], n: int) -> list[int]:
    """Return the positions of the images whose labels teach most.

    The predicted classes take turns. Each gives its images with the smallest margins first, the differences
    between the two highest probabilities.

    Args:
        answers: per image the most likely classes, at least two; empty for an image to leave out.
        n: maximum number of positions.
    """
    by_class: dict[str, list[tuple[float, int]]] = {}
    for position, ranked in enumerate(answers):
        if ranked:
            margin = ranked[0][1] - sum(probability for _, probability in ranked[1:2])
            by_class.setdefault(ranked[0][0], []).append((margin, position))
    turns = zip_longest(*map(sorted, by_class.values()))
    ordered = chain.from_iterable(sorted(filter(None, turn)) for turn in turns)
    return [position for _, position in ordered][:n]
