"""Settings of earlier versions: one warning names them all."""

import logging

import pytest

from core.log import start_logging
from core.parent_watch import CHILD
from core.removed_settings import REPLACEMENTS, removed_settings_warning
from core.settings import Settings


def test_one_warning_names_all_removed_settings(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CLIPCITE_SWEEP_DAYS", "3")
    monkeypatch.setenv("CLIPCITE_BODY_BYTES", "1000")
    with caplog.at_level(logging.WARNING):
        start_logging(Settings())
        monkeypatch.setenv(CHILD, "1")  # `clipcite serve` has warned itself
        start_logging(Settings())
    assert [record.getMessage() for record in caplog.records] == [
        "Ignored settings that no longer exist: CLIPCITE_BODY_BYTES (replaced by CLIPCITE_MEMORY_BYTES), "
        "CLIPCITE_SWEEP_DAYS (replaced by nothing: files are deleted by record). Unset them."
    ]


def test_present_settings_need_no_warning() -> None:
    present = {f"CLIPCITE_{name.upper()}": "1" for name in Settings.model_fields}
    assert removed_settings_warning(present) is None
    assert not {name.lower() for name in REPLACEMENTS} & Settings.model_fields.keys()
