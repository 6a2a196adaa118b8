"""Refused requests in the metrics and in the log."""

import logging

import pytest
from prometheus_client import CollectorRegistry

from api.middleware import auth
from api.middleware.auth import Refusals
from core.store.accounts import api_keys
from tests.api.conftest import MakeService
from tests.api.middleware.keys import NEVER, get, make


def test_refused_keys_are_counted_and_logged(
    make_service: MakeService, caplog: pytest.LogCaptureFixture
) -> None:
    service = make_service()
    revoked, classify = make(service.database), make(service.database, scopes=["classify"])
    admin = make(service.database, scopes=["admin"])
    with service.database.write() as session:
        api_keys.revoke(session, revoked.row.id)
    with caplog.at_level(logging.INFO, "api.middleware.auth"):
        for key in (NEVER, None, revoked.key, classify.key):
            for _ in range(3):
                assert get(service, key).status_code in {401, 403}
    lines = [record.getMessage() for record in caplog.records if record.name == "api.middleware.auth"]
    assert lines == [
        "Requests from unknown are refused: unauthorized",
        f"Requests from {revoked.row.id} are refused: key_revoked",
        f"Requests from {classify.row.id} are refused: missing_scope",
    ]
    metrics = get(service, admin.key, "/metrics").text
    for code, count in (("unauthorized", 6.0), ("key_revoked", 3.0), ("missing_scope", 3.0)):
        assert f'clipcite_refused_requests_total{{code="{code}"}} {count}' in metrics


def test_many_addresses_write_few_lines(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Refusals(CollectorRegistry())
    with caplog.at_level(logging.INFO, "api.middleware.auth"):
        for number in range(1_000):
            counted.count("unauthorized", f"2001:db8::{number:x}")
        assert len(caplog.records) == auth.MAX_LOG_LINES
        monkeypatch.setattr(auth, "LOG_PERIOD_SECONDS", 1e-9)  # a minute later
        counted.count("unauthorized", "2001:db8::1")
    assert len(caplog.records) == auth.MAX_LOG_LINES + 1
