"""The audit log over the route matrix: one entry per change."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from core.clip.models import backbones
from core.clip.models.backbone import Backbone
from core.store.accounts import api_keys
from core.store.db.tables import Model
from tests.api.middleware.test_auth import ROUTES
from tests.api.service import URL, Service, form, shots
from tests.api.serving.adapted import publish_model
from tests.core.store.samples import new_job

Entries = Callable[[], list[dict[str, Any]]]
READ_ONLY = {
    ("POST", path)
    for path in ("/adapt/layout", "/classify", "/classify/collection", "/models/mdl_x/evaluate")
}


@pytest.fixture(scope="module")
def audited(new_service: Callable[..., AbstractContextManager[Service]]) -> Iterator[tuple[Service, str]]:
    """Return a service with the id of the key that its client uses."""
    with new_service() as service:
        with service.database.write() as session:
            made = api_keys.create(session, owner="team-a", scopes=["adapt", "admin"])
        service.settings.__pydantic_fields_set__.discard("backbone")  # no environment sets it
        service.client.headers["Authorization"] = f"Bearer {made.key}"
        yield service, made.row.id


@pytest.fixture
def entries(caplog: pytest.LogCaptureFixture) -> Entries:
    """Return a function that returns the audit log since its last call."""
    caplog.set_level(logging.INFO, "core.audit")

    def since_last_call() -> list[dict[str, Any]]:
        found = [record.audit for record in caplog.records if hasattr(record, "audit")]
        caplog.clear()
        return found

    return since_last_call


class Steps:
    """One change per route, in an order in which each has something to change."""

    def __init__(self, service: Service, backbone: Backbone, entries: Entries) -> None:
        self.call: Callable[..., httpx.Response] = service.client.request
        self.service, self.backbone, self.entries = service, backbone, entries
        with service.database.write() as session:
            self.operator = api_keys.create(session, owner="default", scopes=["admin"])
        self.job = self.more = self.first = self.second = self.corrected = self.correction = ""

    def publish(self) -> str:
        return publish_model(
            self.service.database, self.service.blobs, self.backbone, owner="team-a", name="shoes"
        )

    def adapt(self) -> httpx.Response:
        answer = self.call("POST", "/adapt", **form(**shots()))
        self.job = answer.json()["id"]
        return answer

    def retrain(self) -> httpx.Response:
        answer = self.call("POST", f"/jobs/{self.job}/retrain", json={})
        self.more = answer.json()["id"]
        return answer

    def cancel(self) -> httpx.Response:
        return self.call("POST", f"/jobs/{self.more}/cancel")

    def delete_job(self) -> httpx.Response:
        return self.call("DELETE", f"/jobs/{self.more}")

    def promote(self) -> httpx.Response:
        self.first, self.second = self.publish(), self.publish()
        self.call("PUT", "/models/shoes/aliases/prod", json={"model": self.first})
        self.entries()
        return self.call("PUT", "/models/shoes/aliases/prod", json={"model": self.second})

    def rollback(self) -> httpx.Response:
        return self.call("POST", "/models/shoes/aliases/prod/rollback")

    def delete_alias(self) -> httpx.Response:
        return self.call("DELETE", "/models/shoes/aliases/prod")

    def rename(self) -> httpx.Response:
        return self.call("PATCH", f"/models/{self.second}", json={"name": "boots"})

    def import_model(self) -> httpx.Response:
        exported = self.call("GET", f"/models/{self.first}/export", params={"format": "delta"})
        assert exported.status_code == 200
        return self.call("POST", "/models", files={"archive": ("delta.zip", exported.content)})

    def extend(self) -> httpx.Response:
        model = self.publish()
        with self.service.database.write() as session:  # a model of the job, whose images are stored
            session.execute(update(Model).where(Model.id == model).values(job_id=self.job))
        answer = self.call("POST", f"/models/{model}/extend", **form(**shots(("oak", "elm"))))
        self.more = answer.json()["id"]
        return answer

    def add_feedback(self) -> httpx.Response:
        model = self.publish()
        with self.service.database.write() as session:
            session.execute(update(Model).where(Model.id == model).values(job_id=self.job))
        answer = self.call("POST", f"/models/{model}/feedback", **form(**shots(("oak",), each=1)))
        self.corrected, self.correction = model, answer.json()["data"][0]["id"]
        return answer

    def delete_feedback(self) -> httpx.Response:
        return self.call("DELETE", f"/models/{self.corrected}/feedback/{self.correction}")

    def operate(self, method: str, path: str, **given: Any) -> httpx.Response:
        return self.call(method, path, headers={"Authorization": f"Bearer {self.operator.key}"}, **given)

    def choose_backbone(self) -> httpx.Response:
        return self.operate("PUT", "/backbones/default", json={"name": "starter"})

    def pull_backbone(self) -> httpx.Response:
        return self.operate("POST", "/backbones/ViT-B-16/openai/pull")

    def stop_pull(self) -> httpx.Response:
        return self.operate("DELETE", "/backbones/ViT-B-16/openai/pull")

    def remove_backbone(self) -> httpx.Response:
        folder = backbones.folder_of("ViT-B-16/openai", self.service.settings.cache)
        folder.mkdir(parents=True)
        (folder / backbones.MANIFEST).write_text('{"name": "ViT-B-16/openai", "source": "", "files": {}}')
        return self.operate("DELETE", "/backbones/ViT-B-16/openai")

    def delete_model(self) -> httpx.Response:
        return self.call("DELETE", f"/models/{self.second}")


STEPS: dict[tuple[str, str], tuple[str, str, Callable[[Steps], str]]] = {
    ("POST", "/adapt"): ("adapt", "job.create", lambda s: s.job),
    ("POST", "/jobs/job_x/retrain"): ("retrain", "job.create", lambda s: s.more),
    ("POST", "/jobs/job_x/cancel"): ("cancel", "job.cancel", lambda s: s.more),
    ("DELETE", "/jobs/job_x"): ("delete_job", "job.delete", lambda s: s.more),
    ("PUT", "/models/shoes/aliases/prod"): ("promote", "alias.promote", lambda s: "shoes@prod"),
    ("POST", "/models/shoes/aliases/prod/rollback"): ("rollback", "alias.rollback", lambda s: "shoes@prod"),
    ("DELETE", "/models/shoes/aliases/prod"): ("delete_alias", "alias.delete", lambda s: "shoes@prod"),
    ("PATCH", "/models/mdl_x"): ("rename", "model.rename", lambda s: s.second),
    ("POST", "/models"): ("import_model", "model.import", lambda s: ""),
    ("POST", "/models/mdl_x/extend"): ("extend", "job.create", lambda s: s.more),
    ("POST", "/models/mdl_x/feedback"): ("add_feedback", "feedback.add", lambda s: s.corrected),
    ("DELETE", "/models/mdl_x/feedback/fbk_x"): ("delete_feedback", "feedback.delete", lambda s: s.corrected),
    ("PUT", "/backbones/default"): ("choose_backbone", "backbone.default", lambda s: "starter"),
    ("POST", "/backbones/shoes/pull"): ("pull_backbone", "backbone.pull", lambda s: "ViT-B-16/openai"),
    ("DELETE", "/backbones/shoes/pull"): ("stop_pull", "backbone.stop", lambda s: "ViT-B-16/openai"),
    ("DELETE", "/backbones/shoes"): ("remove_backbone", "backbone.remove", lambda s: "ViT-B-16/openai"),
    ("DELETE", "/models/mdl_x"): ("delete_model", "model.delete", lambda s: s.second),
}


def test_every_route_that_changes_something_has_a_step() -> None:
    changing = {(method, path) for method, path in ROUTES if method != "GET"}
    assert changing == {*STEPS, *READ_ONLY}


def test_each_change_has_one_entry(
    audited: tuple[Service, str], backbone: Backbone, entries: Entries
) -> None:
    service, key_id = audited
    steps = Steps(service, backbone, entries)
    entries()
    for name, action, object_of in STEPS.values():
        answer = getattr(steps, name)()
        assert answer.is_success, answer.text
        [row] = entries()
        by_operator = action.startswith("backbone")
        owner, actor = ("default", steps.operator.row.id) if by_operator else ("team-a", key_id)
        target = object_of(steps) or answer.json()["id"]
        who = {"actor": actor, "owner": owner, "address": "unknown"}  # the test client has no address
        assert row == {"action": action, "target": target, **who}


def test_reading_and_refusals_leave_no_entry(audited: tuple[Service, str], entries: Entries) -> None:
    service, _ = audited
    entries()
    for method, path in ROUTES:
        answer = service.client.request(method, path)
        assert answer.status_code < 500 or answer.status_code in {503}, answer.text
    assert entries() == []


def test_a_request_that_changes_nothing_writes_nothing(
    audited: tuple[Service, str], backbone: Backbone, entries: Entries
) -> None:
    service, _ = audited
    job = service.accepted(**shots(("a", "b")))["id"]
    model = publish_model(service.database, service.blobs, backbone, owner="team-a", name="hats")
    entries()
    for _ in range(2):
        assert service.client.post(f"/jobs/{job}/cancel").status_code == 202
        alias = service.client.put("/models/hats/aliases/prod", json={"model": model})
        assert alias.status_code == 200
    assert [row["action"] for row in entries()] == ["job.cancel", "alias.promote"]


def test_a_replayed_request_changes_nothing(audited: tuple[Service, str], entries: Entries) -> None:
    service, _ = audited
    entries()
    upload: dict[str, Any] = {**form(**shots(("x", "y"))), "headers": {"Idempotency-Key": "once"}}
    first, again = (service.client.post("/adapt", **upload) for _ in range(2))
    assert (again.json()["id"], again.headers["idempotency-replayed"]) == (first.json()["id"], "true")
    assert [row["target"] for row in entries()] == [first.json()["id"]]


def test_no_image_names_and_no_secrets(audited: tuple[Service, str], entries: Entries) -> None:
    service, _ = audited
    upload = shots(("private class", "other"))
    upload["images"] = [(f"private-{i}.jpg", data) for i, (_, data) in enumerate(upload["images"])]
    entries()
    service.accepted(**upload, webhook="https://example.com/private")
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
