import re
import threading
import time

import pytest

from core.store.db import ids
from core.store.db.ids import new_id


def test_shape() -> None:
    assert re.fullmatch(r"job_[0-9a-hjkmnp-tv-z]{26}", new_id("job"))


def test_every_id_is_greater_than_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [new_id("x") for _ in range(5_000)]
    monkeypatch.setattr(time, "time_ns", lambda: 0)  # The clock steps back.
    made += [new_id("x") for _ in range(100)]
    assert made == sorted(set(made))


def test_later_milliseconds_sort_later(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 4_000_000_000_000 * 1_000_000
    made = []
    for step in (0, 1, 1_000, 10**9):
        monkeypatch.setattr(time, "time_ns", lambda step=step: now + step * 1_000_000)
        monkeypatch.setattr(ids, "_last", 0)  # As in another process.
        made.append(new_id("x"))
    assert made == sorted(made)


def test_threads_get_different_ids() -> None:
    made: list[str] = []
    threads = [
        threading.Thread(target=lambda: made.extend(new_id("x") for _ in range(500))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 2_000
