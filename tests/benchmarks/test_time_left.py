"""The statistics of the benchmark of the time left, on a made-up job."""

import pytest

from benchmarks.time_left import Watched, table
from clipcite.types.jobs import Progress


def watched(*seen: tuple[float, float | None, float | None, float]) -> Watched:
    """Return a job of 100 s whose model was there after 60 s: (time, stated model, stated end, fraction)."""
    progress = [
        (
            at,
            Progress(
                **{"stage": "training", "epoch": 0, "step": 0},
                fraction=fraction,
                eta_seconds=end,
                model_eta_seconds=model,
            ),
        )
        for at, model, end, fraction in seen
    ]
    return Watched(10, progress, model=60, end=100)


def test_stated_and_true_times() -> None:
    job = watched(
        (0, None, None, 0), (15, 90, 85, 0.1), (30, 30, 90, 0.1), (50, 5, 25, 0.6), (75, None, 25, 1)
    )
    assert [job.stated(share, model=True) for share in (0.25, 0.5, 0.75)] == [2.0, 1.0, 0.5]
    assert [job.stated(share, model=False) for share in (0.25, 0.5, 0.75)] == pytest.approx(
        [90 / 70, 0.5, 1.0]
    )
    assert job.frozen() == 15
    assert table([job], "Alone").note == "3 of 6 within a factor of 1.5."
