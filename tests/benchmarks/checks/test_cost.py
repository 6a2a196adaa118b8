"""The command on coloured images."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.checks import cost
from tests.benchmarks.accuracy.test_paper import COLOURS, folder_of


def milliseconds(work: Callable[[], object], images: int, times: int = 1) -> float:
    """Do the work, and return the number of images instead of a time."""
    work()
    return float(images)


def test_every_kind_of_image_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cost, "LARGE", 100)
    monkeypatch.setattr(cost, "MAX_IMAGES", 50)
    monkeypatch.setattr(cost, "_milliseconds", milliseconds)
    folder = folder_of(tmp_path / "colours", list(COLOURS))
    cost.main(["--data", str(folder)])
    _, small, large, pairs = capsys.readouterr().out.splitlines()
    # 20 images, of which every fourth is timed, and the first of every sixty is enlarged.
    assert small == "| colours | 5.00 | 5.00 | 5.00 |"
    assert large == "| colours, 100 pixels | 1.00 | 1.00 | 1.00 |"
    assert pairs == "| 50 images, pairs only | – | – | 50.00 |"


def test_the_time_per_image_is_the_fastest_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 5.0, 6.0, 6.0, 9.0])
    monkeypatch.setattr(cost.time, "process_time", lambda: next(clock))
    assert cost._milliseconds(lambda: None, 4) == 1000 * 1.0 / 4
