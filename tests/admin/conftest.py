"""Shared fixtures of the operator's commands."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from clipcite.__main__ import app
from tests.clipcite.conftest import no_settings_of_this_user

__all__ = ["no_settings_of_this_user"]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CLIPCITE_DATABASE_URL", "CLIPCITE_DATA"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "data"


def call(data: Path, *arguments: str, group: str = "keys") -> Result:
    return CliRunner().invoke(app, [group, *arguments, "--data", str(data)])
