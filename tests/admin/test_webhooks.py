"""`clipcite webhooks secret` and `test` as an operator runs them."""

import json
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from core.store.db import migrate
from tests.admin.conftest import call
from tests.receiver import receiver


@pytest.mark.slow
def test_a_test_message_is_signed(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate.upgrade(f"sqlite:///{data / 'clipcite.db'}")
    key = call(data, "secret", "--owner", "team-a", group="webhooks").stdout.strip()
    with receiver() as there:
        monkeypatch.setenv("CLIPCITE_WEBHOOK_ALLOW_PRIVATE", "true")
        done = call(data, "test", there.url, "--owner", "team-a", group="webhooks")
        assert done.exit_code == 0, done.output
        assert "(webhook.test) was accepted with status 204." in done.stdout
        [(_, headers, body)] = there.hits
        assert Webhook(key).verify(body, headers)["type"] == "webhook.test"
        there.answers = [500]
        refused = call(data, "test", there.url, group="webhooks")
        assert refused.exit_code == 1
        assert "was not accepted: the receiver responded with 500." in refused.stderr
        monkeypatch.delenv("CLIPCITE_WEBHOOK_ALLOW_PRIVATE")
        guarded = call(data, "test", there.url, "--json", group="webhooks")
        assert guarded.exit_code == 1
        assert "is not allowed" in json.loads(guarded.stdout)["reason"]
        assert len(there.hits) == 2


def test_the_secret_is_shown_and_replaced(data: Path) -> None:
    missing = call(data, "secret", group="webhooks")
    assert f"No installation in {data}" in missing.stderr
    assert not data.exists()
    migrate.upgrade(f"sqlite:///{data / 'clipcite.db'}")

    def shown(*options: str) -> str:
        done = call(data, "secret", *options, group="webhooks")
        assert done.exit_code == 0, done.output
        return done.stdout.strip()

    first = shown("--owner", "team-a")
    assert first.startswith("whsec_")
    second = shown("--owner", "team-a", "--rotate")
    assert second != first
    assert shown("--owner", "team-a") == second
