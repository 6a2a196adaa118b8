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
    (tmp_path / "clipcite_admin_key").write_text("from-a-file\n")
    (tmp_path / "clipcite_database_url").write_text("postgresql://clipcite:word@host/name\n")
    (tmp_path / "postgres_password").write_text("somebody else's\n")
    monkeypatch.setenv("CLIPCITE_SECRETS", str(tmp_path))
    monkeypatch.delenv("CLIPCITE_DATABASE_URL", raising=False)
    monkeypatch.delenv("CLIPCITE_ADMIN_KEY", raising=False)
    settings = get_settings()
    assert settings.admin_key.get_secret_value() == "from-a-file"
    assert settings.sqlalchemy_url() == "postgresql+psycopg://clipcite:word@host/name"


def test_a_variable_wins_over_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clipcite_admin_key").write_text("from-a-file")
    monkeypatch.setenv("CLIPCITE_SECRETS", str(tmp_path))
    monkeypatch.setenv("CLIPCITE_ADMIN_KEY", "from-the-environment")
    admin_key = get_settings().admin_key
    assert admin_key.get_secret_value() == "from-the-environment"


def test_the_key_of_the_client_is_not_a_key_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """CLIPCITE_API_KEY opens a remote service. On this machine it must not open one as its admin."""
    monkeypatch.setenv("CLIPCITE_API_KEY", "cc_of-a-remote-service")
    monkeypatch.delenv("CLIPCITE_ADMIN_KEY", raising=False)
    assert get_settings().admin_key is None


def test_a_missing_secrets_folder_causes_no_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setenv("CLIPCITE_SECRETS", str(tmp_path / "not-there"))
    monkeypatch.delenv("CLIPCITE_ADMIN_KEY", raising=False)
    assert get_settings().admin_key is None
    assert not recwarn.list
