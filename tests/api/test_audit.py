"""The audit log over all routes: one entry per change."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from core.clip.models.backbone import Backbone
from tests.api.middleware.keys import make
from tests.api.routes import BARE, READS, ROUTES, NewService, two_owners
from tests.api.service import URL, Service, form, shots
from tests.api.serving.adapted import publish_model
from tests.core.store.samples import new_job

Entries = Callable[[], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def audited(new_service: NewService) -> Iterator[Service]:
    """Yield a service whose client has a key."""
    with new_service() as service:
        service.client.headers["Authorization"] = f"Bearer {make(service.database, scopes=['admin']).key}"
        yield service


@pytest.fixture
def entries(caplog: pytest.LogCaptureFixture) -> Entries:
    """Return a function that returns the audit log since its last call."""
    caplog.set_level(logging.INFO, "core.audit")

    def since_last_call() -> list[dict[str, Any]]:
        found = [record.audit for record in caplog.records if hasattr(record, "audit")]
        caplog.clear()
        return found

    return since_last_call


def test_each_change_has_one_entry(new_service: NewService, backbone: Backbone, entries: Entries) -> None:
    with two_owners(new_service, backbone) as world:
        entries()
        for (method, path), who, answer in world.answers():
            audit = ROUTES[method, path].audit
            assert audit or method == "GET", "The row needs its audit line, or READS."
            expected = []
            if audit not in {"", READS}:
                action, target = audit.split(" ", 1)
                made = answer.json().get("id") if answer.content else None
                line = {"action": action, "target": target.format_map({**world.mine, "id": made})}
                expected = [{**line, "actor": who["key_id"], "owner": who["owner"], "address": "unknown"}]
            assert entries() == expected, (method, path)  # the test client has no address


def test_reading_and_refusals_leave_no_entry(audited: Service, entries: Entries) -> None:
    entries()
    for method, path in BARE:
        answer = audited.client.request(method, path)
        assert answer.status_code < 500 or answer.status_code in {503}, answer.text
    assert entries() == []


def test_a_request_that_changes_nothing_writes_nothing(
    audited: Service, backbone: Backbone, entries: Entries
) -> None:
    job = audited.accepted(**shots(("a", "b")))["id"]
    model = publish_model(audited.database, audited.blobs, backbone, owner="team", name="hats")
    entries()
    for _ in range(2):
        assert audited.client.post(f"/jobs/{job}/cancel").status_code == 202
        alias = audited.client.put("/models/hats/aliases/prod", json={"model": model})
        assert alias.status_code == 200
    assert [row["action"] for row in entries()] == ["job.cancel", "alias.promote"]


def test_a_replayed_request_changes_nothing(audited: Service, entries: Entries) -> None:
    entries()
    upload: dict[str, Any] = {**form(**shots(("x", "y"))), "headers": {"Idempotency-Key": "once"}}
    first, again = (audited.client.post("/adapt", **upload) for _ in range(2))
    assert (again.json()["id"], again.headers["idempotency-replayed"]) == (first.json()["id"], "true")
    assert [row["target"] for row in entries()] == [first.json()["id"]]


def test_no_image_names_and_no_secrets(audited: Service, entries: Entries) -> None:
    upload = shots(("private class", "other"))
    upload["images"] = [(f"private-{i}.jpg", data) for i, (_, data) in enumerate(upload["images"])]
    entries()
    audited.accepted(**upload, webhook="https://example.com/private")
    assert "private" not in str(entries())


@pytest.mark.parametrize(
    ("client", "peer", "logged"),
    [
        ("203.0.113.9", "127.0.0.1", "203.0.113.9"),
        ("2001:db8::1", "127.0.0.1", "2001:db8::1"),
        ("[bold red]this machine[/]", "127.0.0.1", "127.0.0.1"),
        ("\x1b[2Kforged", "127.0.0.1", "127.0.0.1"),
        ("x", None, "unknown"),
    ],
)
def test_only_addresses_are_logged(
    either: Service, entries: Entries, client: str, peer: str | None, logged: str
) -> None:
    """A trusted proxy may pass any text on."""

    async def as_in_uvicorn(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {} if peer is None else {"peer": (peer, 1)}
        await either.app(scope, receive, send)

    sender = TestClient(as_in_uvicorn, URL, client=(client, 1))
    assert sender.post(f"/jobs/{new_job(either.database)}/cancel").status_code == 202
    [row] = entries()
    assert row["address"] == logged
