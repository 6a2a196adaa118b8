"""Request ids, and problems outside the routes: unknown paths, wrong methods, unexpected errors."""

import logging
import re

import pytest

from core.store.storage import bucket as bucket_module
from tests.api.conftest import MakeService
from tests.api.service import Service, assert_problem, shots
from tests.servers import bucket_access

OURS = re.compile(r"req_[0-9a-f]{24}")
SECRET = "the password is in this message"


@pytest.mark.parametrize("given", ["a", "job-7.retry_2", "0", "x" * 64, "A.B-C_d"])
def test_a_harmless_id_comes_back(unchanged: Service, given: str) -> None:
    headers = {"x-request-id": given}
    response = unchanged.client.get("/healthz", headers=headers)
    assert response.headers["x-request-id"] == given
    assert response.headers["x-content-type-options"] == "nosniff"
    response = unchanged.client.get("/jobs/none", headers=headers)
    assert assert_problem(response, 404, "job_not_found")["request_id"] == given


@pytest.mark.parametrize(
    "given", ["", "x" * 65, "a b", "a\tb", "<script>", "a/b", "a;b", "é", "a%0d%0ab", "{}", '"']
)
def test_a_harmful_id_is_replaced(unchanged: Service, given: str) -> None:
    response = unchanged.client.get("/jobs/none", headers={"x-request-id": given.encode()})
    problem = assert_problem(response, 404, "job_not_found")
    assert OURS.fullmatch(problem["request_id"])


def test_a_request_without_an_id_gets_one(unchanged: Service) -> None:
    ids = {unchanged.client.get("/healthz").headers["x-request-id"] for _ in range(20)}
    assert len(ids) == 20
    assert all(OURS.fullmatch(i) for i in ids)


@pytest.mark.parametrize("path", ["/nothing", "/jobs/a/b", "/adapt/x", "/models/x/export2", "/%00", "/🦊"])
def test_an_unknown_path(unchanged: Service, path: str) -> None:
    assert_problem(unchanged.client.get(path), 404, "not_found", "There is no route .*/docs lists")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/adapt", "POST"),
        ("DELETE", "/healthz", "GET, HEAD"),
        ("TRACE", "/jobs", "GET, HEAD"),
        ("POST", "/models/x", "GET, HEAD, PATCH, DELETE"),
        ("POST", "/models/x/aliases/prod", "GET, HEAD, PUT, DELETE"),
        ("GET", "/backbones/x/pull", "POST, DELETE"),
        ("DELETE", "/page/styles/base.css", "GET, HEAD"),
    ],
)
def test_a_wrong_method(unchanged: Service, method: str, path: str, allowed: str) -> None:
    response = unchanged.client.request(method, path)
    assert_problem(response, 405, "method_not_allowed", f"{path} does not support {method}")
    assert response.headers["allow"] == allowed


def test_the_unexpected(fresh: Service, caplog: pytest.LogCaptureFixture) -> None:
    @fresh.app.get("/broken")
    def raises() -> None:
        raise RuntimeError(SECRET)

    with caplog.at_level(logging.ERROR):
        response = fresh.client.get("/broken", headers={"x-request-id": "my-id"})
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"] == "my-id"
    problem = response.json()
    assert (problem["code"], problem["request_id"]) == ("internal_error", "my-id")
    assert "my-id" in problem["detail"]
    for word in (SECRET, "Traceback", "RuntimeError", ".py"):
        assert word not in response.text
    assert "request my-id failed" in caplog.text
    assert SECRET in caplog.text
    assert fresh.client.get("/healthz").status_code == 200


def test_refusals_of_the_body_have_a_request_id(make_service: MakeService) -> None:
    service = make_service(max_request_bytes=1_000)
    headers = {"x-request-id": "my-id", "content-type": "multipart/form-data; boundary=b"}
    response = service.client.post("/adapt", content=b"--b\r\n", headers=headers)
    assert assert_problem(response, 400, "truncated_body")["request_id"] == "my-id"
    response = service.client.post("/adapt", content=bytes(1_001), headers=headers)
    assert assert_problem(response, 413, "request_too_large")["request_id"] == "my-id"
    response = service.client.post("/adapt", content=b"x", headers={"content-type": "multipart/form-data"})
    assert_problem(response, 400, "bad_request", "Missing boundary.*Let your HTTP client encode")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/docs",
        "/openapi.json",
        "/page/styles/base.css",
        "/healthz",
        "/jobs",
        "/jobs/none",
        "/nothing",
        "/adapt",
    ],
)
def test_head_is_get_without_the_body(unchanged: Service, path: str) -> None:
    got, head = unchanged.client.get(path), unchanged.client.head(path)
    assert head.status_code == got.status_code
    assert head.content == b""
    for name in ("content-type", "content-length", "etag", "allow"):
        assert head.headers.get(name) == got.headers.get(name)


def test_options_is_refused(unchanged: Service) -> None:
    assert unchanged.client.options("/jobs").status_code == 405


def test_every_response_forbids_content_sniffing(unchanged: Service) -> None:
    for path in (
        "/healthz",
        "/readyz",
        "/jobs",
        "/jobs/none",
        "/nothing",
        "/",
        "/page/styles/base.css",
        "/metrics",
    ):
        assert unchanged.client.get(path).headers["x-content-type-options"] == "nosniff"


def test_addresses_of_the_operators_network_are_only_logged(
    make_service: MakeService, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "RETRY_SECONDS", 1)
    without = make_service(database_url="postgresql://user:secret@127.0.0.1:1/none")
    with caplog.at_level(logging.WARNING):
        answer = without.client.get("/jobs")
    says = "The database does not respond properly.*Try again.*in the service's log"
    assert_problem(answer, 503, "database_unavailable", says)
    assert "127.0.0.1" not in answer.text
    assert "port 1" not in answer.text
    assert 'connection to server at "127.0.0.1", port 1 failed' in caplog.text

    for name, value in bucket_access("http://127.0.0.1:1").items():
        monkeypatch.setenv(name, value)
    away = make_service(blob_url="s3://bucket/here")
    with caplog.at_level(logging.WARNING):
        answer = away.adapt(**shots())
    assert_problem(answer, 503, "storage_unavailable", "Try again.*in the service's log")
    assert "127.0.0.1" not in answer.text
    assert "127.0.0.1:1" in caplog.text
