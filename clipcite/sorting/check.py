"""Check of a sort: a person labels images drawn at random, which tell how many of all are sorted right."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nsmallest
from math import comb

from clipcite.cli.connection import stderr
from clipcite.sorting.log import Log
from clipcite.sorting.plan import Image, class_of
from clipcite.sorting.teaching import ask_labels

ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Check:
    """Result of a check: `right` of `count` images drawn from `total` are sorted right."""

    right: int
    count: int
    total: int

    def interval(self) -> tuple[float, float]:
        """Return the exact 95% confidence interval of the share that is sorted right among all images.

        Source: C. Clopper and E. Pearson, Biometrika 1934, for the hypergeometric distribution.
        """
        wrong = self.count - self.right
        low = _fewest(self.right, self.count, self.total)
        high = self.total - _fewest(wrong, self.count, self.total)
        return low / self.total, high / self.total

    def words(self) -> str:
        """Return the result as a sentence."""
        low, high = self.interval()
        return (
            f"Of {self.count:,} images drawn at random from {self.total:,}, {self.right:,} are sorted right: "
            f"{self.right / self.count:.0%} (likely {100 * low:.0f} to {100 * high:.0f})."
        )


def _fewest(right: int, count: int, total: int) -> int:
    """Return the smallest number of right images for which `right` or more of `count` are not too rare."""
    low, high = right, total - count + right
    while low < high:  # The probability grows with the number.
        middle = (low + high) // 2
        ways = sum(comb(middle, k) * comb(total - middle, count - k) for k in range(right, count + 1))
        if ways / comb(total, count) > ALPHA / 2:
            high = middle
        else:
            low = middle + 1
    return low


def check(log: Log, images: Sequence[Image], count: int, *, reject: bool) -> Check | None:
    """Ask a person for the classes of `count` images drawn at random, less those already checked.

    The draw depends on the folder and on each file alone: the next run goes on with the same images, and
    asks again for skipped ones. Images with a label are not drawn. The model's class is not shown. Checked
    images go where the person says and are sent nowhere, so the number stays true as the sort improves.

    Args:
        reject: the sort puts images that belong to no class apart.

    Returns:
        The result for the sort as it is now, or None without a checked image.
    """
    pile = [image for image in images if log.answers[image.key].ranked and image.key not in log.labels]
    seed = log.subject["folder"]
    drawn = nsmallest(count, pile, lambda image: random.Random(f"{seed} {image.key}").random())
    if missing := [image for image in drawn if image.key not in log.checked]:
        stderr().print("Check: these images are drawn at random. Skipped ones are not counted.")
        ask_labels(log, missing, is_check=True)
    known = [image for image in pile if image.key in log.checked]
    if not known:
        return None
    right = sum(class_of(log.answers[image.key], reject=reject) == log.checked[image.key] for image in known)
    return Check(right, len(known), len(pile))
