"""The field `webhook` of POST /adapt."""

import pytest
from sqlalchemy import select

from core.store.db.tables import Job
from tests.api.conftest import MakeService
from tests.api.service import Service, assert_problem, shots

URL = "https://example.com:8443/hooks?team=a"


def stored(service: Service) -> list[str | None]:
    with service.database.read() as session:
        return list(session.scalars(select(Job.webhook).order_by(Job.created_at)))


def test_the_webhook_is_stored_with_the_job(fresh: Service) -> None:
    fresh.accepted(**shots())
    for url in (URL, f" {URL}\n", "", " "):
        fresh.accepted(**shots(), webhook=url)
    assert stored(fresh) == [None, URL, URL, None, None]


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("ftp://example.com/", "invalid_webhook", "Write it as https://host/path"),
        ("https://user:hunter2@example.com/", "invalid_webhook", "without a user, a password"),
        ("http://[::ffff:127.0.0.1]/", "webhook_not_public", "CLIPCITE_WEBHOOK_ALLOW_PRIVATE"),
        ("http://localhost:8000/", "webhook_not_public", "the name localhost belongs to a local network"),
    ],
)
def test_a_refused_url_gives_the_reason(unchanged: Service, url: str, code: str, says: str) -> None:
    refused = unchanged.adapt(**shots(), webhook=url)
    assert_problem(refused, 422, code, says, errors=[{"pointer": "/webhook", "code": code}])
    assert "hunter2" not in refused.text
    assert unchanged.stored() == []


def test_private_addresses_pass_where_allowed(make_service: MakeService) -> None:
    service = make_service(webhook_allow_private=True)
    service.accepted(**shots(), webhook="http://127.0.0.1:9/")


def test_two_webhooks_are_refused(unchanged: Service) -> None:
    parts = [("webhook", (None, URL)), ("webhook", (None, URL))]
    assert_problem(unchanged.client.post("/adapt", files=parts), 422, "invalid_request", "more than once")
