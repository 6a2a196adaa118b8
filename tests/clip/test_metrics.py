"""The `metrics` of a job, to the digit: stored with every job and model, so they may not drift."""

import json
from pathlib import Path
from typing import Any

import pytest

from core.clip.evaluate import job_metrics
from core.clip.published import compared
from tests.clip.reports import held_out

GOLDEN = json.loads(Path(__file__).with_name("metrics.json").read_text(encoding="utf-8"))
CASES: dict[str, dict[str, Any]] = {
    "trained classes only": {},
    "new classes too": {"new": 20},
    "new classes only": {"pictures": 0, "new": 10},
    "too few for a temperature": {"pictures": 12, "new": 6},
    "a small gain": {"stock": 0.7, "adapted": 0.75, "new": 7},
    "a loss": {"stock": 0.9, "adapted": 0.4},
}


def metrics(**given: Any) -> Any:
    held = held_out(**given)
    return job_metrics(compared(held, 40.0), source="test", images=len(held.truth), trained_images=9)


@pytest.mark.parametrize("case", CASES)
def test_the_metrics_are_the_stored_ones(case: str) -> None:
    assert metrics(**CASES[case]) == GOLDEN[case]
