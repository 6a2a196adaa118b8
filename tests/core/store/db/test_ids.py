import re
import time

import pytest

from core.store.db.ids import new_id


def test_shape() -> None:
    assert re.fullmatch(r"job_[0-9a-hjkmnp-tv-z]{26}", new_id("job"))


def test_later_milliseconds_sort_later(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 4_000_000_000_000 * 1_000_000
    made = []
    for step in (0, 1, 1_000, 10**9):
        monkeypatch.setattr(time, "time_ns", lambda step=step: now + step * 1_000_000)
        made.append(new_id("x"))
    assert made == sorted(made)
