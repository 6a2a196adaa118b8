"""Sources of settings: the environment, then files."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import get_settings


@pytest.fixture(autouse=True)
def clear_cached_settings() -> Iterator[None]:
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def test_secrets_are_read_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clipcite_api_key").write_text("from-a-file\n")
    (tmp_path / "clipcite_database_url").write_text("postgresql://clipcite:word@host/name\n")
    (tmp_path / "postgres_password").write_text("somebody else's\n")
    monkeypatch.setenv("CLIPCITE_SECRETS", str(tmp_path))
    monkeypatch.delenv("CLIPCITE_DATABASE_URL", raising=False)
    monkeypatch.delenv("CLIPCITE_API_KEY", raising=False)
    settings = get_settings()
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "from-a-file"
    assert settings.sqlalchemy_url() == "postgresql+psycopg://clipcite:word@host/name"


def test_a_variable_wins_over_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clipcite_api_key").write_text("from-a-file")
    monkeypatch.setenv("CLIPCITE_SECRETS", str(tmp_path))
    monkeypatch.setenv("CLIPCITE_API_KEY", "from-the-environment")
    api_key = get_settings().api_key
    assert api_key is not None
    assert api_key.get_secret_value() == "from-the-environment"


def test_a_missing_secrets_folder_causes_no_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setenv("CLIPCITE_SECRETS", str(tmp_path / "not-there"))
    monkeypatch.delenv("CLIPCITE_API_KEY", raising=False)
    assert get_settings().api_key is None
    assert not recwarn.list
