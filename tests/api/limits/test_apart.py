"""Independent thread pools per kind of work, and bounds on the content of a request."""

import asyncio
import base64
import stat
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from api.classify import routes as classify_routes
from api.jobs import images as image_service
from api.jobs import upload as upload_module
from api.jobs.report import routes as report_routes
from api.middleware.body_limit import MAX_SMALL_BYTES
from api.models import routes as model_routes
from api.threads import REQUESTS, Threads
from core.store.accounts import api_keys
from core.store.registry import models
from core.store.storage.blobs import Blobs
from tests.api import crafted
from tests.api.conftest import MakeService
from tests.api.service import Service, assert_problem, form, listening, shots
from tests.core.store import samples

UPLOADS = 40
"""One upload per default thread."""
Schema = dict[str, Any]


@contextmanager
def connected(service: Service) -> Iterator[tuple[httpx.Client, ThreadPoolExecutor]]:
    """Serve, and yield a client with a key, and threads for its concurrent requests."""
    with service.database.write() as session:
        key = api_keys.create(session, owner="team", scopes=list(api_keys.SCOPES)).key
    with (
        listening(service.app) as port,
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {key}"},
            timeout=600,
            limits=httpx.Limits(max_connections=None),
        ) as http,
        ThreadPoolExecutor(UPLOADS) as pool,
    ):
        yield http, pool


def stall(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> tuple[threading.Semaphore, threading.Event]:
    """Let each call of a function release the semaphore, and wait for the event before it runs."""
    stalled, go_on = threading.Semaphore(0), threading.Event()
    function = getattr(owner, name)

    def slow(*args: Any, **given: Any) -> Any:
        stalled.release()
        assert go_on.wait(600)
        return function(*args, **given)

    monkeypatch.setattr(owner, name, slow)
    return stalled, go_on


def assert_others_are_answered(
    http: httpx.Client, stalled: threading.Semaphore, requests: Sequence[Future[httpx.Response]]
) -> None:
    """Wait until the requests stall, then send another one."""
    assert stalled.acquire(timeout=600)
    # Give the others time to block as well.
    while stalled.acquire(timeout=1):
        continue
    assert http.get("/models", timeout=300).status_code == 200
    assert not any(request.done() for request in requests)


@pytest.mark.slow
def test_stalled_uploads_block_no_other_request(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service()
    stalled, go_on = stall(monkeypatch, Blobs, "put_all")
    with connected(service) as (http, pool):
        try:
            uploads = [pool.submit(http.post, "/adapt", **form(**shots())) for _ in range(UPLOADS)]
            assert_others_are_answered(http, stalled, uploads)
        finally:
            go_on.set()
        assert {upload.result().status_code for upload in uploads} == {202}


@pytest.mark.parametrize(
    ("path", "module", "function"),
    [
        ("/jobs/{job}/images/0", image_service, "jpeg_thumbnail"),
        ("/jobs/{job}/report", report_routes, "_stored"),
        ("/models/{model}/export?format=delta", model_routes, "export"),
    ],
)
def test_stalled_files_block_no_other_request(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch, path: str, module: object, function: str
) -> None:
    service = make_service()
    stalled, go_on = stall(monkeypatch, module, function)
    with connected(service) as (http, pool):
        job_id, model = samples.new_job(service.database, owner="team"), samples.new_model()
        samples.publish(service.database, samples.claimed(service.database, job_id), model)
        url = path.format(job=job_id, model=model.id)
        try:
            requests = [pool.submit(http.get, url) for _ in range(UPLOADS)]
            assert_others_are_answered(http, stalled, requests)
        finally:
            go_on.set()
        assert {request.result().status_code for request in requests} <= {404, 503}


def test_one_model_is_exported_at_a_time(make_service: MakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each export holds a whole model in memory, whoever asks for it."""
    service = make_service()
    stalled, go_on = stall(monkeypatch, model_routes, "export")
    with connected(service) as (http, pool):
        with service.database.write() as session:
            keys = [api_keys.create(session, owner=o, scopes=list(api_keys.SCOPES)).key for o in "ab"]
        urls = []
        for owner in "ab":
            job_id, model = samples.new_job(service.database, owner=owner), samples.new_model()
            samples.publish(service.database, samples.claimed(service.database, job_id), model)
            urls.append(f"/models/{model.id}/export?format=delta")
        headers = [{"Authorization": f"Bearer {key}"} for key in keys]
        try:
            exports = [pool.submit(http.get, u, headers=h) for u, h in zip(urls, headers, strict=True)]
            assert stalled.acquire(timeout=600)
            assert not stalled.acquire(timeout=1)
        finally:
            go_on.set()
        assert {export.result().status_code for export in exports} == {503}  # their files do not exist


def test_a_stalled_disk_blocks_no_other_request(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files above 16 kB are written to disk as they arrive."""
    service = make_service()
    stalled, go_on = threading.Semaphore(0), threading.Event()
    write = tempfile.SpooledTemporaryFile.write

    def slow(self: Any, data: bytes) -> int:
        if self._rolled or self.tell() + len(data) > self._max_size:
            stalled.release()
            assert go_on.wait(600)
        return write(self, data)

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "write", slow)
    large = form(images=[("a.jpg", crafted.jpeg() + bytes(200_000))], labels=["a"])
    with connected(service) as (http, pool):
        try:
            uploads = [pool.submit(http.post, "/adapt", **large) for _ in range(UPLOADS)]
            assert_others_are_answered(http, stalled, uploads)
        finally:
            go_on.set()
        for upload in uploads:
            assert_problem(upload.result(), 422, "too_few_classes")


def test_stalled_handlers_delay_no_key_lookup(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all threads for the database stalled, a request with an unknown key is still refused."""
    service = make_service()
    monkeypatch.setattr(REQUESTS, "wait_seconds", 600)
    stalled, go_on = stall(monkeypatch, models, "list_page")
    with connected(service) as (http, pool):
        try:
            lists = [pool.submit(http.get, "/models") for _ in range(UPLOADS)]
            for _ in range(REQUESTS.max_threads // 2):  # the others are left for other owners
                assert stalled.acquire(timeout=600)
            unknown = {"Authorization": f"{http.headers['Authorization'][:-4]}AAAA"}
            assert http.get("/models", headers=unknown, timeout=300).status_code == 401
        finally:
            go_on.set()
        assert {answer.result().status_code for answer in lists} == {200}


def unbounded_places(
    document: Schema, schema: object, where: str, seen: frozenset[str] = frozenset()
) -> list[str]:
    """List the parts of a request's schema that have no upper bound."""
    found: list[str] = []
    if isinstance(schema, list):
        return [place for one in schema for place in unbounded_places(document, one, where, seen)]
    if not isinstance(schema, dict):
        return []
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name not in seen:
            found += unbounded_places(document, document["components"]["schemas"][name], name, seen | {name})
    if schema.get("type") == "array" and "maxItems" not in schema:
        found.append(f"{where}: array")
    is_open = schema.get("type") == "object" and schema.get("additionalProperties") not in (None, False)
    if is_open and "maxProperties" not in schema:
        found.append(f"{where}: object")
    ends = {"maxLength", "enum", "const", "format", "contentMediaType"}
    if schema.get("type") == "string" and not ends & set(schema):
        found.append(f"{where}: string")
    for name, inner in schema.get("properties", {}).items():
        found += unbounded_places(document, inner, f"{where}.{name}", seen)
    for inside in ("items", "additionalProperties", "anyOf", "oneOf", "allOf"):
        found += unbounded_places(document, schema.get(inside), where, seen)
    return found


def bodies(service: Service) -> list[tuple[str, str, str, Schema]]:
    document = service.client.get("/openapi.json").json()
    return [
        (method.upper(), path, kind, content["schema"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        for kind, content in operation.get("requestBody", {}).get("content", {}).items()
    ]


def test_everything_in_a_request_has_a_bound(unchanged: Service) -> None:
    document = unchanged.client.get("/openapi.json").json()
    found = [
        place
        for method, path, _, schema in bodies(unchanged)
        for place in unbounded_places(document, schema, f"{method} {path}")
    ]
    # These fields are bounded by the limit of the body, CLIPCITE_MEMORY_BYTES.
    assert set(found) == {"ImageIn.base64: string", "LayoutJson.paths: array", "LayoutJson.paths: string"}


def bytes_read(service: Service, method: str, path: str, kind: str) -> tuple[int, int]:
    """Return the bytes read of an endless body without a length, and the status of the answer."""
    read, status = 0, 0

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += 16_000
        assert read < 2_000_000
        return {"type": "http.request", "body": b"[" * 16_000, "more_body": True}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", kind.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    asyncio.run(service.app(scope, receive, send))
    return read, status


def test_bodies_are_read_as_far_as_their_route_takes_them(fresh: Service) -> None:
    wanted = {(method, path, kind) for method, path, kind, _ in bodies(fresh)}
    assert {
        ("PATCH", "/models/{model_id}", "application/json"),
        ("POST", "/adapt", "multipart/form-data"),
    } <= wanted
    for method, path, _ in wanted:
        if path in {"/adapt/layout", "/piles/match", "/piles/{pile_id}/answers"}:
            continue  # They read any type as JSON.
        for kind in ("application/json", "multipart/form-data; boundary=b", "text/plain"):
            if (method, path, kind.partition(";")[0]) in wanted and (path == "/classify" or "form" in kind):
                continue  # Uploads may be large.
            read, status = bytes_read(fresh, method, path.replace("{", "").replace("}", ""), kind)
            assert read <= 128_000 == 2 * MAX_SMALL_BYTES, (method, path, kind)
            assert 400 <= status < 500, (method, path, kind)
            if kind == "application/json" and (method, path, kind) in wanted:
                assert status == 413


def temporary_bytes(service: Service) -> int:
    """Return the bytes of spooled uploads, which have no name, and of scratch folders."""
    total = sum(path.lstat().st_size for path in service.settings.scratch().rglob("*") if path.is_file())
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found = descriptor.stat()
            unnamed = stat.S_ISREG(found.st_mode) and not found.st_nlink
            total += 512 * found.st_blocks if unnamed else 0
    return total


def test_temporary_files_of_all_requests_are_bounded(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An owner has half of four times the largest request. The others go on."""
    service = make_service(max_request_bytes=2_000_000)
    stalled, go_on = stall(monkeypatch, upload_module, "_measured")
    files = {f"{name}/{i}.bmp": b"BM" + bytes(470_000) for name in ("fox", "hare") for i in range(2)}
    stored = form(archive=crafted.zip_of(files, zipfile.ZIP_STORED))
    assert 1_800_000 < len(stored["files"][0][1][1]) < 2_000_000
    before = temporary_bytes(service)
    with connected(service) as (http, pool):
        with service.database.write() as session:
            other = api_keys.create(session, owner="other", scopes=list(api_keys.SCOPES)).key
        try:
            first = pool.submit(http.post, "/adapt", **stored)
            assert stalled.acquire(timeout=600)
            assert temporary_bytes(service) - before > 3_600_000
            for answer in pool.map(lambda _: http.post("/adapt", **stored), range(8)):
                assert_problem(answer, 503, "busy", "temporary files")
                assert answer.headers["retry-after"] == "10"
                assert temporary_bytes(service) - before <= 4_000_000
            image = ("images", ("a.bmp", crafted.jpeg() + bytes(200_000)))
            asked = http.post(
                "/classify",
                files=[image],
                data={"class_names": ["red", "blue"]},
                headers={"Authorization": f"Bearer {other}"},
            )
            assert asked.status_code == 200, asked.text
        finally:
            go_on.set()
        assert_problem(first.result(), 422, "bad_images")
        assert_problem(http.post("/adapt", **stored), 422, "bad_images")
    assert temporary_bytes(service) == before


def large_json() -> dict[str, Any]:
    image = base64.b64encode(crafted.jpeg() + bytes(300_000)).decode()
    return {"json": {"class_names": ["red", "blue"], "images": [{"base64": image}]}}


def large_form() -> dict[str, Any]:
    image = ("images", ("a.jpg", crafted.jpeg() + bytes(1_200_000)))
    return {"files": [image], "data": {"class_names": ["red", "blue"]}}


def small_files() -> dict[str, Any]:
    images = [(f"{i}.jpg", crafted.jpeg(i)) for i in range(76)]  # each counts as 16 kB
    return form(images=images, labels=["red", "blue"] * 38)


def long_text() -> dict[str, Any]:
    return form(**shots(), config={"prompts": {f"class {i}": ["x" * 990] * 100 for i in range(9)}})


@pytest.mark.parametrize(
    ("path", "body", "limit"),
    [
        ("/classify", large_json, 3_000_000),
        ("/classify", large_form, 3_000_000),
        ("/adapt", small_files, 3_000_000),
        ("/adapt", long_text, 2_300_000),
    ],
    ids=["json", "images", "small files", "text"],
)
def test_the_memory_for_bodies_is_shared_by_owners(
    make_service: MakeService,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    body: Callable[[], dict[str, Any]],
    limit: int,
) -> None:
    """Each body takes two fifths of the limit. An owner has half of it, and a third owner finds no room."""
    service = make_service(memory_bytes=limit)
    if path == "/classify":
        stalled, go_on = stall(monkeypatch, classify_routes, "_classified")
    else:
        stalled, go_on = stall(monkeypatch, upload_module, "_measured")
    with connected(service) as (http, pool):
        with service.database.write() as session:
            keys = [api_keys.create(session, owner=o, scopes=list(api_keys.SCOPES)).key for o in ("b", "c")]
        second, third = ({"Authorization": f"Bearer {key}"} for key in keys)
        try:
            held = [pool.submit(http.post, path, **body())]
            assert stalled.acquire(timeout=300)
            refused = [http.post(path, **body(), timeout=300)]
            held.append(pool.submit(http.post, path, **body(), headers=second))
            assert stalled.acquire(timeout=300)
            refused.append(http.post(path, **body(), headers=third, timeout=300))
            for answer in refused:
                assert_problem(answer, 503, "busy", "take the memory")
                assert answer.headers["retry-after"] == "10"
            assert http.get("/models", headers=third).status_code == 200
        finally:
            go_on.set()
        statuses = {answer.result().status_code for answer in held}
        assert statuses <= {200, 202, 422}
        for headers in (second, third):
            assert http.post(path, **body(), headers=headers).status_code in statuses


def test_uploads_are_spooled_to_the_scratch_folder(fresh: Service) -> None:
    with TestClient(fresh.app):
        folder = Path(tempfile.gettempdir())
        assert folder.parent == fresh.settings.scratch()
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()
    assert tempfile.gettempdir() == str(fresh.temp)


def test_an_error_passes_the_turn_on() -> None:
    async def run() -> list[Any]:
        threads = Threads(1)
        results = await asyncio.gather(
            threads.run(int, "no number"), threads.run(int, "1"), return_exceptions=True
        )
        return [isinstance(results[0], ValueError), results[1]]

    assert asyncio.run(run()) == [True, 1]
