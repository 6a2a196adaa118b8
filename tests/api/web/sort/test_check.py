"""The numbers of *Check with 20*: what 20 images drawn at random say about all."""

import json
import math
import subprocess
from typing import Any

import pytest
from scipy.stats import beta

from api.web.static_files import STATIC
from tests.api.web.test_code import NODE

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


@pytest.mark.parametrize(("right", "pile"), [(120, 240), (200, 240), (230, 240), (2400, 3000)])
def test_200_checks_contain_the_truth(right: int, pile: int) -> None:
    found = run(
        f"""Array.from({{ length: 200 }}, () => {{
          const taken = check.drawn(Array.from({{ length: {pile} }}, (_, i) => i), 20);
          const [low, high] = check.shareInterval(taken.filter((i) => i < {right}).length, 20, {pile});
          return [new Set(taken).size, low <= {right / pile} && {right / pile} <= high, high - low];
        }})"""
    )
    assert {size for size, _, _ in found} == {20}
    assert sum(holds for _, holds, _ in found) >= 184  # with 95% it is fewer in 1% of such runs
    assert sum(width for *_, width in found) / 200 < 0.45  # not as wide as to say nothing


@pytest.mark.parametrize("pile", [20, 21, 45])
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
