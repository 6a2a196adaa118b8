"""Log lines: secrets are redacted."""

import logging

import pytest

from core.log import TextLines, secrets_of
from core.settings import Settings


def test_no_secret_of_the_settings_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ("admin-key-admin-key", "bucket-secret", "database-password", "broker password")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secrets[1])
    settings = Settings(
        admin_key=secrets[0],  # type: ignore[arg-type]
        database_url=f"postgresql://me:{secrets[2]}@host/name",  # type: ignore[arg-type]
        redis_url="redis://:broker%20password@host/0",  # type: ignore[arg-type]
    )
    record = logging.makeLogRecord({"msg": " ".join(secrets)})
    assert TextLines(secrets_of(settings)).format(record).endswith(": *** *** *** ***")
