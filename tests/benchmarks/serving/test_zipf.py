"""The Zipf distribution of model requests, and the hit rate of an ideal cache."""

import pytest

from benchmarks.serving.zipf import lru_hits, zipf_requests


def test_the_share_of_a_model_falls_with_its_rank() -> None:
    drawn = zipf_requests(100, 20_000, 1.0)
    assert set(drawn) <= set(range(100))
    counts = [drawn.count(model) for model in range(100)]
    # The harmonic number of 100 is 5.19: the first model has a share of 0.19, the second half of it.
    assert counts[0] / 20_000 == pytest.approx(1 / 5.19, rel=0.1)
    assert counts[0] / counts[1] == pytest.approx(2, rel=0.15)
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.3)


@pytest.mark.parametrize(
    ("requests", "room", "hits"),
    [
        ([], 2, 0),
        ([1, 1, 1], 1, 2),
        ([1, 2, 1, 2], 1, 0),
        ([1, 2, 1, 2], 2, 2),
        ([1, 2, 1, 3, 1, 2], 2, 2),  # 3 replaces 2, because 1 was used later.
    ],
)
def test_the_least_recently_used_model_is_evicted(requests: list[int], room: int, hits: int) -> None:
    assert lru_hits(requests, room) == hits
