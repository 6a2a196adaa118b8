"""The command on coloured images."""

from pathlib import Path

import pytest

from benchmarks.checks import cost
from tests.benchmarks.accuracy.test_paper import COLOURS, folder_of


def test_every_kind_of_image_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cost, "LARGE", 100)
    monkeypatch.setattr(cost, "MAX_IMAGES", 50)
    folder = folder_of(tmp_path / "colours", list(COLOURS))
    cost.main(["--data", str(folder)])
    _, small, large, pairs = capsys.readouterr().out.splitlines()
    assert small.startswith("| colours |")
    assert large.startswith("| colours, 100 pixels |")
    assert float(pairs.split("|")[-2]) >= 0
