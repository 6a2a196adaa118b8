"""The numbers of *Check with 20*: what 20 images drawn at random say about all."""

import json
import math
import subprocess
from typing import Any

import pytest
from scipy.stats import beta

from api.web.static_files import STATIC
from tests.api.web.browser import NODE

CHECK = (STATIC / "lib/sorting/check.js").as_uri()


def run(program: str) -> Any:
    """Run a program on the module, with random numbers that repeat."""
    seeded = "let seed = 1; Math.random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;"
    code = f"import * as check from {json.dumps(CHECK)}; {seeded} console.log(JSON.stringify({program}));"
    done = subprocess.run(
        [str(NODE), "--input-type=module", "-e", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_image_is_drawn_once_and_equally_often() -> None:
    draws = run("Array.from({ length: 1000 }, () => check.drawn([0, 1, 2, 3], 2))")
    assert all(len(set(drawn)) == 2 for drawn in draws)
    assert all(440 < sum(image in drawn for drawn in draws) < 560 for image in range(4))


@pytest.mark.parametrize("pile", [20, 21, 45, 240])
def test_no_pile_is_covered_less_than_it_says(pile: int) -> None:
    """Each possible number of right images is in the intervals of at least 95% of all draws."""
    ends = run(f"Array.from({{ length: 21 }}, (_, k) => check.shareInterval(k, 20, {pile}))")
    for right in range(pile + 1):
        ways = [math.comb(right, k) * math.comb(pile - right, 20 - k) for k in range(21)]
        covered = sum(
            way
            for way, (low, high) in zip(ways, ends, strict=True)
            if low - 1e-9 <= right / pile <= high + 1e-9
        )
        assert covered / sum(ways) >= 0.95


def test_of_a_huge_pile_it_is_the_interval_of_clopper_and_pearson() -> None:
    for right in (0, 13, 20):
        low, high = run(f"check.shareInterval({right}, 20, 1e6)")
        assert low == pytest.approx(0 if not right else beta.ppf(0.025, right, 21 - right), abs=1e-4)
        assert high == pytest.approx(1 if right == 20 else beta.ppf(0.975, right + 1, 20 - right), abs=1e-4)


def test_chance_explains_a_change() -> None:
    pairs = [(0, 0), (1, 0), (5, 0), (6, 0), (8, 1), (7, 3), (0, 6)]
    chances = run(f"{json.dumps(pairs)}.map(([gained, lost]) => check.isChance(gained, lost))")
    assert chances == [True, True, True, False, False, True, False]
