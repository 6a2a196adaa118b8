"""`Idempotency-Key` on POST /adapt: a client that lost the answer sends the request again."""

from typing import Any

import httpx
import pytest
from sqlalchemy import select

from core.store.db.tables import IdempotencyKey
from tests.api import crafted
from tests.api.service import Service, assert_problem, form, listening, shots
from tests.core.store.races import at_once

KEY = '"a/b?c=d&e;f,g"'.ljust(255, "x")


def post(service: Service, key: str = KEY, **fields: Any) -> httpx.Response:
    return service.client.post("/adapt", **form(**fields), headers={"idempotency-key": key})


def test_a_retry_gets_the_same_job(either: Service) -> None:
    fields = {**shots(), "name": "animals", "config": {"epochs": 3, "alpha": 0.4}}
    first = post(either, **fields)
    assert first.status_code == 202
    assert "idempotency-replayed" not in first.headers
    before = sorted(either.stored())
    for config in (
        {"epochs": 3, "alpha": 0.4},
        {"alpha": 0.4, "epochs": 3, "seed": first.json()["config"]["seed"]},
    ):
        again = post(either, **{**fields, "config": config})  # httpx draws a new boundary per request.
        assert again.status_code == 202
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers["location"] == first.headers["location"]
        assert again.headers["retry-after"]
        assert again.json() == first.json()
    assert sorted(either.stored()) == before
    either.client.post(f"/jobs/{first.json()['id']}/cancel")
    # The answer shows the current state of the job.
    assert post(either, **fields).json()["status"] == "cancelled"
    assert post(either, "another", **fields).json()["id"] != first.json()["id"]
    assert either.adapt(**fields).json()["id"] != first.json()["id"]


def test_another_content_is_refused(fresh: Service) -> None:
    fields = {**shots(), "config": {"epochs": 3}}
    assert post(fresh, **fields).status_code == 202
    before = sorted(fresh.stored())
    images, labels = fields["images"], fields["labels"]
    for changed in (
        {"images": [*images[:-1], ("b.jpg", crafted.jpeg(999))]},
        {"images": images[:-1], "labels": labels[:-1]},
        {"labels": ["stoat", *labels[1:]]},
        {"labels": labels[::-1]},
        {"config": {"epochs": 4}},
        {"config": {}},
        {"name": "animals"},
        {"on_bad_image": "skip"},
        {"webhook": "https://example.com/hook"},
        {"test_images": images[:1], "test_labels": labels[:1]},
    ):
        response = post(fresh, **{**fields, **changed})
        assert_problem(response, 422, "idempotency_key_reused", "Use a new key")
    assert sorted(fresh.stored()) == before


def test_a_deleted_job_does_not_come_back(fresh: Service) -> None:
    job = post(fresh, **shots()).json()["id"]
    assert fresh.client.delete(f"/jobs/{job}").status_code == 204
    assert_problem(post(fresh, **shots()), 409, "idempotent_job_deleted", "Use a new key")
    assert fresh.stored() == []


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "ä", "tab\tin"])
def test_invalid_keys(unchanged: Service, key: str) -> None:
    headers = {b"idempotency-key": key.encode()}
    response = unchanged.client.post("/adapt", **form(**shots()), headers=headers)
    assert_problem(response, 422, "invalid_request", "(?i)idempotency-key")
    assert unchanged.stored() == []


def test_many_at_once_make_one_job(either: Service) -> None:
    with listening(either.app) as port:

        def send() -> httpx.Response:
            upload = form(**shots(each=1))
            while True:
                response = httpx.post(
                    f"http://127.0.0.1:{port}/adapt", **upload, headers={"idempotency-key": "k"}, timeout=600
                )
                if response.status_code != 503:  # On a slow machine the lock may time out.
                    return response

        answers: list[httpx.Response] = at_once(*[send] * 6)
    assert {answer.status_code for answer in answers} == {202}
    jobs = {answer.json()["id"] for answer in answers}
    assert len(jobs) == 1
    assert {answer.headers["location"] for answer in answers} == {f"/jobs/{job}" for job in jobs}
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert {blob.key.split("/")[1] for blob in either.blobs.list("jobs")} == jobs
    with either.database.read() as session:
        assert [row.job_id for row in session.scalars(select(IdempotencyKey))] == list(jobs)
