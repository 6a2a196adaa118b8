"""/jobs: watch, list, cancel and delete. The worker's part is played through core.store."""

import threading
import time
from typing import Any

import pytest
from sqlalchemy import select

from core.clip.models.backbone import Backbone
from core.store.db import pagination
from core.store.db.tables import Deletion
from core.store.errors import StorageUnavailable
from core.store.jobs import lifecycle
from core.store.jobs.lifecycle import Claim
from core.store.storage import deletions
from tests.api.conftest import MakeService
from tests.api.service import JOB_KEYS, Body, Service, assert_problem, shots
from tests.api.serving.adapted import publish_model
from tests.core.store import samples

PROGRESS = {
    "stage": "training",
    "phase": "steps",
    "doing": "Training",
    "epoch": 3,
    "epochs": 20,
    "step": 41,
    "steps": 200,
    "fraction": 0.2,
    "eta_seconds": 31.5,
    "model_eta_seconds": 12.5,
    "images_per_second": 52.0,
    "loss": {"total": 1.2, "dva": 0.6, "scl": 0.8, "vld": 0.4},
}


def queued(service: Service, **given: Any) -> str:
    return samples.new_job(service.database, **given)


def running(service: Service, **given: Any) -> Claim:
    return samples.claimed(service.database, queued(service, **given))


def succeeded(service: Service) -> str:
    claim = running(service)
    assert samples.publish(service.database, claim)
    return claim.job_id


def failed(service: Service) -> str:
    claim = running(service)
    with service.database.write() as session:
        lifecycle.finish_failed(session, claim, code="out_of_memory", detail="Use a smaller batch_size.")
    return claim.job_id


def get(service: Service, job_id: str, **query: Any) -> Body:
    response = service.client.get(f"/jobs/{job_id}", params=query)
    assert response.status_code == 200, response.text
    body: Body = response.json()
    assert set(body) == JOB_KEYS
    return body


def listed(service: Service, **query: Any) -> Body:
    response = service.client.get("/jobs", params=query)
    assert response.status_code == 200, response.text
    body: Body = response.json()
    assert set(body) == {"data", "has_more", "next_cursor"}
    return body


# --- one job ---


def test_a_job_in_every_state(either: Service) -> None:
    waiting = get(either, queued(either))
    assert (waiting["status"], waiting["progress"], waiting["attempts"]) == ("queued", None, 0)

    claim = running(either)
    with either.database.write() as session:
        lifecycle.renew_lease(session, claim, lease_seconds=30, progress=PROGRESS)
    body = get(either, claim.job_id)
    assert (body["status"], body["attempts"], body["queue_position"]) == ("running", 1, None)
    assert body["progress"] == PROGRESS
    assert body["started_at"] is not None
    assert body["finished_at"] is None

    done = get(either, succeeded(either))
    assert done["status"] == "succeeded"
    assert done["model_id"].startswith("mdl_")
    assert done["metrics"]["verdict"] == "better"
    assert done["created_at"] <= done["started_at"] <= done["finished_at"]

    broken = get(either, failed(either))
    assert (broken["status"], broken["model_id"], broken["metrics"]) == ("failed", None, None)
    assert broken["error"] == {"code": "out_of_memory", "detail": "Use a smaller batch_size."}


def test_no_secret_of_the_lease_is_shown(fresh: Service) -> None:
    claim = running(fresh)
    assert claim.token not in fresh.client.get(f"/jobs/{claim.job_id}").text
    assert claim.token not in fresh.client.get(f"/jobs/{claim.job_id}/events").text


@pytest.mark.parametrize(
    "job_id", ["job_none", "x", "job_" + "0" * 26, "x" * 2_000, "%F0%9F%A6%8A", "..%2F..%2Fetc"]
)
def test_an_unknown_job(unchanged: Service, job_id: str) -> None:
    client = unchanged.client
    for response in (
        client.get(f"/jobs/{job_id}"),
        client.get(f"/jobs/{job_id}?wait=30"),
        client.delete(f"/jobs/{job_id}"),
        client.post(f"/jobs/{job_id}/cancel"),
        client.get(f"/jobs/{job_id}/events"),
    ):
        if "%2F" not in job_id:
            assert_problem(response, 404, "job_not_found", "GET /jobs lists")
        else:
            assert response.status_code in {404, 405}


def test_nul_in_an_id_on_postgresql(
    make_service: MakeService, postgres_url: str, postgres_template: str
) -> None:
    # The test writes nothing, so it can use the template database.
    url = postgres_url.rsplit("/postgres?", 1)
    service = make_service(database_url=f"{url[0]}/{postgres_template}?{url[1]}")
    for method, path, status in (
        ("GET", "/jobs/%00", 404),
        ("DELETE", "/jobs/%00", 404),
        ("POST", "/jobs/%00/cancel", 404),
        ("GET", "/jobs/%00/events", 404),
        ("GET", "/models/%00", 404),
        ("DELETE", "/models/a%00", 404),
        ("GET", "/jobs?after=%00", 422),
        ("GET", "/models?after=%00", 422),
    ):
        assert service.client.request(method, path).status_code == status
    request = {"images": [{"base64": ""}], "class_names": ["oak"], "model": "mdl_\0"}
    assert_problem(service.client.post("/classify", json=request), 404, "model_not_found")


# --- lists ---


def test_lists_page_by_page(either: Service) -> None:
    made = [queued(either) for _ in range(7)][::-1]
    assert [job["id"] for job in listed(either)["data"]] == made
    found, after = [], None
    for size in (3, 3, 1):
        page = listed(either, limit=3, **({"after": after} if after else {}))
        assert len(page["data"]) == size
        found += [job["id"] for job in page["data"]]
        after = page["next_cursor"]
        assert page["has_more"] is (after is not None)
        assert all(set(job) == JOB_KEYS for job in page["data"])
    assert found == made
    assert after is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jobs", "models"])
def test_a_page_of_large_objects_ends_early(fresh: Service, backbone: Backbone, kind: str) -> None:
    prompts = {f"class {i}": [f"{i} {j}".ljust(900, "x") for j in range(10)] for i in range(100)}
    made = [
        queued(fresh, config={"backbone": "starter", "prompts": prompts})
        if kind == "jobs"
        else publish_model(fresh.database, fresh.blobs, backbone, prompts=prompts)
        for _ in range(10)
    ][::-1]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 100}
    while True:
        response = fresh.client.get(f"/{kind}", params=query)
        page = response.json()
        assert 1 <= len(page["data"]) <= 4
        assert len(response.content) <= 4_100_000
        seen += [row["id"] for row in page["data"]]
        if not page["has_more"]:
            break
        query["after"] = page["next_cursor"]
    assert seen == made


def test_one_object_may_exceed_the_size_of_a_page(fresh: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pagination, "MAX_PAGE_BYTES", 10)
    made = [queued(fresh) for _ in range(2)][::-1]
    page = listed(fresh)
    assert ([job["id"] for job in page["data"]], page["has_more"]) == (made[:1], True)


@pytest.mark.parametrize("kind", ["jobs", "models"])
def test_paging_survives_the_deletion_of_a_whole_page(either: Service, backbone: Backbone, kind: str) -> None:
    made = [
        queued(either) if kind == "jobs" else publish_model(either.database, either.blobs, backbone)
        for _ in range(5)
    ][::-1]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        response = either.client.get(f"/{kind}", params=query)
        assert response.status_code == 200, response.text
        page = response.json()
        for row in page["data"]:
            seen.append(row["id"])
            assert either.client.delete(f"/{kind}/{row['id']}").status_code == 204
        if not page["has_more"]:
            break
        query["after"] = page["next_cursor"]
    assert seen == made


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=1.5", "limit="])
def test_impossible_limits(unchanged: Service, query: str) -> None:
    for path in ("/jobs", "/models"):
        problem = assert_problem(unchanged.client.get(f"{path}?{query}"), 422, "invalid_request", "limit")
        assert [error["pointer"] for error in problem["errors"]] == ["/limit"]


def test_filter_by_status(either: Service) -> None:
    made = {
        "queued": [queued(either), queued(either)],
        "running": [running(either).job_id],
        "succeeded": [succeeded(either)],
        "failed": [failed(either)],
    }
    cancelled = queued(either)
    either.client.post(f"/jobs/{cancelled}/cancel")
    made["cancelled"] = [cancelled]
    for status, ids in made.items():
        page = listed(either, status=status)
        assert [job["id"] for job in page["data"]] == ids[::-1]
        assert {job["status"] for job in page["data"]} == {status}
    assert len(listed(either)["data"]) == 6
    assert_problem(either.client.get("/jobs?status=done"), 422, "invalid_request", "status")


def test_malformed_cursors(fresh: Service) -> None:
    for after in ("job_none", "", "-", "1-", "-1-job_1", "1" * 17 + "-job_1", "1-" + "x" * 41, "٣-a"):
        for path in ("/jobs", "/models"):
            response = fresh.client.get(path, params={"after": after})
            assert_problem(response, 422, "invalid_cursor", "start again without")


def test_places_in_the_queue(either: Service) -> None:
    one, two, three = (queued(either) for _ in range(3))
    samples.claimed(either.database, one)
    assert [get(either, job)["queue_position"] for job in (one, two, three)] == [None, 1, 2]
    assert [job["queue_position"] for job in listed(either)["data"]] == [2, 1, None]
    assert either.accepted(**shots())["queue_position"] == 3
    either.client.post(f"/jobs/{two}/cancel")
    assert get(either, three)["queue_position"] == 1


# --- wait ---


def test_wait_answers_when_the_job_ends(either: Service) -> None:
    claim = running(either)
    timer = threading.Timer(0.6, samples.publish, args=(either.database, claim))
    timer.start()
    started = time.monotonic()
    body = get(either, claim.job_id, wait=60)
    seconds = time.monotonic() - started
    timer.join()
    assert body["status"] == "succeeded"
    assert body["model_id"] is not None
    assert seconds < 60  # The answer came before the timeout.


def test_wait_answers_when_the_model_is_there(fresh: Service) -> None:
    claim = running(fresh)
    timer = threading.Timer(0.6, samples.publish, args=(fresh.database, claim), kwargs={"evaluate": True})
    timer.start()
    started = time.monotonic()
    body = get(fresh, claim.job_id, wait=60, until="model")
    assert time.monotonic() - started < 60
    timer.join()
    assert (body["status"], body["metrics"]["verdict"]) == ("running", "evaluating")
    assert body["model_id"] is not None
    assert get(fresh, claim.job_id, wait=0.6, until="end")["status"] == "running"
    assert get(fresh, failed(fresh), wait=60, until="model")["model_id"] is None
    assert_problem(fresh.client.get(f"/jobs/{claim.job_id}?until=x"), 422, "invalid_request", "until")


def test_cancelling_an_evaluation_leaves_the_model(fresh: Service) -> None:
    claim = running(fresh)
    assert samples.publish(fresh.database, claim, evaluate=True)
    asked = fresh.client.post(f"/jobs/{claim.job_id}/cancel")
    assert (asked.status_code, asked.json()["cancel_requested"]) == (202, True)
    with fresh.database.write() as session:
        assert lifecycle.finish_cancelled(session, claim)
    body = get(fresh, claim.job_id)
    assert (body["status"], body["metrics"]["verdict"]) == ("succeeded", "not_evaluated")
    assert [warning["code"] for warning in body["warnings"]] == ["evaluation_cancelled"]
    assert fresh.client.post(f"/jobs/{claim.job_id}/cancel").status_code == 202
    assert_problem(fresh.client.get(f"/jobs/{claim.job_id}/report"), 404, "report_not_found", "was cancelled")


def test_wait_ends_when_the_service_stops(fresh: Service) -> None:
    job_id = queued(fresh)
    timer = threading.Timer(0.4, fresh.app.state.stopping.set)
    timer.start()
    started = time.monotonic()
    assert get(fresh, job_id, wait=60)["status"] == "queued"
    timer.join()
    assert time.monotonic() - started < 60


def test_wait_for_a_job_that_is_deleted_meanwhile(fresh: Service) -> None:
    job_id = queued(fresh)
    timer = threading.Timer(0.4, fresh.client.delete, args=(f"/jobs/{job_id}",))
    timer.start()
    assert_problem(fresh.client.get(f"/jobs/{job_id}?wait=30"), 404, "job_not_found")
    timer.join()


def test_impossible_waits(fresh: Service) -> None:
    job_id = queued(fresh)
    for wait in ("-1", "61", "x", "nan", "inf", "1e9"):
        assert_problem(fresh.client.get(f"/jobs/{job_id}?wait={wait}"), 422, "invalid_request", "wait")


# --- cancel and delete ---


def test_cancel_a_queued_job_and_again(either: Service) -> None:
    job_id = queued(either)
    response = either.client.post(f"/jobs/{job_id}/cancel")
    assert response.status_code == 202
    body = response.json()
    assert set(body) == JOB_KEYS
    assert (body["status"], body["cancel_requested"], body["queue_position"]) == ("cancelled", True, None)
    assert body["finished_at"] is not None
    again = either.client.post(f"/jobs/{job_id}/cancel")
    assert (again.status_code, again.json()) == (202, body)
    assert samples.types_of(either.database, job_id) == ["queued", "cancelled"]


def test_cancel_a_running_job_and_again(fresh: Service) -> None:
    claim = running(fresh)
    for _ in range(2):
        response = fresh.client.post(f"/jobs/{claim.job_id}/cancel")
        assert response.status_code == 202
        assert (response.json()["status"], response.json()["cancel_requested"]) == ("running", True)
    with fresh.database.write() as session:
        assert lifecycle.renew_lease(session, claim, lease_seconds=30, progress=None) is True
        assert lifecycle.finish_cancelled(session, claim)
    assert get(fresh, claim.job_id)["status"] == "cancelled"
    assert fresh.client.post(f"/jobs/{claim.job_id}/cancel").status_code == 202


def test_cancelling_a_finished_job_is_a_conflict(fresh: Service) -> None:
    for job_id, word in ((succeeded(fresh), "succeeded"), (failed(fresh), "failed")):
        before = get(fresh, job_id)
        response = fresh.client.post(f"/jobs/{job_id}/cancel")
        assert_problem(response, 409, "job_already_finished", f"has already {word}.*be cancelled")
        assert get(fresh, job_id) == before


def test_delete(either: Service) -> None:
    kept = either.accepted(**shots())["id"]
    job_id = either.accepted(**shots())["id"]
    response = either.client.delete(f"/jobs/{job_id}")
    assert (response.status_code, response.content) == (204, b"")
    assert {blob.key.split("/")[1] for blob in either.blobs.list("jobs")} == {kept}
    assert not any(job_id in line for line in either.stored())
    for again in (either.client.get(f"/jobs/{job_id}"), either.client.delete(f"/jobs/{job_id}")):
        assert_problem(again, 404, "job_not_found")
    assert get(either, kept)["queue_position"] == 1


def test_delete_during_a_storage_outage(fresh: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = fresh.accepted(**shots())["id"]

    def away(prefix: str) -> None:
        raise StorageUnavailable("The disk is gone.")

    with monkeypatch.context() as patch:
        patch.setattr(fresh.blobs, "delete_prefix", away)
        says = "It is deleted, but its files are not yet.*The disk is gone"
        assert_problem(fresh.client.delete(f"/jobs/{job_id}"), 503, "storage_unavailable", says)
    assert_problem(fresh.client.get(f"/jobs/{job_id}"), 404, "job_not_found")
    with fresh.database.read() as session:
        left = list(session.scalars(select(Deletion.prefix)))
    assert left == [f"jobs/{job_id}"]
    deletions.finish(fresh.database, fresh.blobs, left[0])  # The dispatcher repeats the deletion like this.
    assert fresh.stored() == []
    with fresh.database.read() as session:
        assert session.scalars(select(Deletion.prefix)).all() == []


def test_delete_while_running(fresh: Service) -> None:
    job_id = fresh.accepted(**shots())["id"]
    claim = samples.claimed(fresh.database, job_id)
    before = fresh.stored()
    problem = assert_problem(fresh.client.delete(f"/jobs/{job_id}"), 409, "job_running", "then delete it")
    assert f"POST /jobs/{job_id}/cancel" in problem["detail"]
    assert fresh.stored() == before
    fresh.client.post(f"/jobs/{job_id}/cancel")
    with fresh.database.write() as session:
        lifecycle.finish_cancelled(session, claim)
    assert fresh.client.delete(f"/jobs/{job_id}").status_code == 204
    assert fresh.stored() == []


def test_the_model_outlives_its_job(fresh: Service, backbone: Backbone) -> None:
    model = publish_model(fresh.database, fresh.blobs, backbone)
    job_id = fresh.client.get(f"/models/{model}").json()["job_id"]
    assert get(fresh, job_id)["model_id"] == model
    assert fresh.client.delete(f"/jobs/{job_id}").status_code == 204
    assert fresh.client.get(f"/models/{model}").json()["job_id"] == job_id
    assert len(fresh.blobs.list(f"models/{model}")) == 2
