"""Cost of the queue with 20,000 jobs: rows that the plans read, and no temporary files."""

import math
from typing import Any

import pytest

from benchmarks.scale.__main__ import measure
from benchmarks.scale.rows import Size

ROWS = {
    "dispatch round": 1_000,
    "GET /jobs/{id}, first in the queue": 2_100,
    "GET /jobs/{id}, in the middle": 2_100,
    "GET /jobs/{id}, last": 2_100,
    "GET /jobs?status=queued, 20 jobs": 4_000,
    "submission": 1_000,
    "start of a job": 100,
    "model of /classify": 10,
}
"""Maximum numbers of rows, which do not depend on the number of jobs."""


@pytest.mark.parametrize("owners", [1, 50, 8_000])
def test_no_query_reads_the_whole_queue(postgres_url: str, owners: int) -> None:
    result = measure(postgres_url, Size(ended=12_000, queued=8_000, owners=owners), times=1)
    costs: dict[str, Any] = {cost["name"]: cost for cost in result["costs"]}
    assert {name: costs[name]["rows"] for name, most in ROWS.items() if costs[name]["rows"] > most} == {}
    assert [name for name, cost in costs.items() if cost["temp_blocks"]] == []
    assert not any(math.isnan(cost["cpu_ms"]) for cost in costs.values())
