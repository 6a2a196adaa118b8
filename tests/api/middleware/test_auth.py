"""Authentication: any address with a key; without keys, this machine only."""

import asyncio
import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from api.middleware.auth import AuthMiddleware, LastUse, Refusals, is_loopback
from api.startup import startup_error
from core.log import JsonLines
from core.settings import Settings
from core.store.accounts import api_keys
from tests.api.middleware.keys import KEY
from tests.api.routes import BARE, ROUTES
from tests.api.service import URL, Service, assert_problem, exchange, listening

OPEN = {"/", "/healthz", "/readyz", "/docs", "/openapi.json"}


@pytest.fixture(scope="module")
def locked(new_service: Callable[..., AbstractContextManager[Service]]) -> Iterator[Service]:
    with new_service(admin_key=KEY) as made:
        yield made


def test_no_route_is_forgotten(locked: Service) -> None:
    """Every route needs the key, except the health checks and the API description."""
    described = {
        (method.upper(), path)
        for path, methods in locked.app.openapi()["paths"].items()
        for method in methods
        if path not in OPEN
    }
    assert described == set(ROUTES)


def test_every_route_needs_a_key(locked: Service) -> None:
    for method, path in BARE:
        response = locked.client.request(method, f"{path}?api_key={KEY}&access_token={KEY}")
        assert_problem(response, 401, "unauthorized", "Authorization: Bearer <key>")
        assert response.headers["www-authenticate"] == "Bearer"
        assert KEY not in response.text


@pytest.mark.parametrize(
    "given",
    [
        *(
            "Bearer wrong",
            f"Bearer {KEY}x",
            f"Bearer {KEY[:-1]}",
            f"Bearer {KEY.upper()}",
            "Bearer",
            "Bearer ",
        ),
        *("", f"Basic {KEY}", KEY, f"Token {KEY}", "Bearer ключ"),
    ],
)
def test_invalid_keys(locked: Service, given: str) -> None:
    response = locked.client.get("/jobs", headers={"authorization": given.encode()})
    assert_problem(response, 401, "unauthorized", "Authorization: Bearer <key>")
    assert KEY not in response.text


@pytest.mark.parametrize(
    "path", ["/nothing", "/healthz/", "/docs/oauth2-redirect", f"{URL}//healthz", "/HEALTHZ", "/page"]
)
def test_authentication_comes_before_routing(locked: Service, path: str) -> None:
    """Unknown paths also return 401, so a caller without a key learns no path."""
    assert_problem(locked.client.get(path), 401, "unauthorized")


def test_the_route_comes_before_the_scope(locked: Service) -> None:
    with locked.database.write() as session:
        key = api_keys.create(session, owner="team", scopes=["classify"]).key
    headers = {"Authorization": f"Bearer {key}"}
    assert_problem(locked.client.get("/nope", headers=headers), 404, "not_found", "There is no route /nope")
    assert_problem(locked.client.get("/metrics", headers=headers), 403, "missing_scope")
    assert_problem(locked.client.get("/nope"), 401, "unauthorized")


def test_a_request_with_a_key_is_one_line(locked: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "api.access")
    with locked.database.write() as session:
        made = api_keys.create(session, owner="team", scopes=["classify"])
    headers = {"Authorization": f"Bearer {made.key}", "X-Request-ID": "req_mine"}
    locked.client.get("/models/secret-shoes", headers=headers)
    locked.client.head("/nope", headers=headers)
    locked.client.get("/models")  # without a key, a stranger could fill the log
    lines = [record for record in caplog.records if record.name == "api.access"]
    found = [{**record.access, "milliseconds": 0} for record in lines]
    given = {"milliseconds": 0, "key_id": made.row.id, "request_id": "req_mine"}
    assert found == [
        {"method": "GET", "route": "/models/{model_id}", "status": 404, **given},
        {"method": "GET", "route": "an unknown route", "status": 404, **given},
    ]
    assert re.fullmatch(
        rf"GET /models/{{model_id}}: 404 in \d+ ms, {made.row.id}, req_mine", lines[0].getMessage()
    )
    written = json.loads(JsonLines([]).format(lines[0]))
    assert (written["route"], written["status"]) == ("/models/{model_id}", 404)


@pytest.mark.parametrize(("error", "status"), [(asyncio.CancelledError, 503), (RuntimeError, 500)])
def test_the_line_of_a_request_that_ends_without_a_response(
    locked: Service, caplog: pytest.LogCaptureFixture, error: type[BaseException], status: int
) -> None:
    """While the service stops, a request is cancelled, and `api.starting` answers 503."""

    async def cut_off(*_: object) -> None:
        raise error

    caplog.set_level(logging.INFO, "api.access")
    cut = AuthMiddleware(
        cut_off, locked.settings, locked.database, LastUse(locked.database), Refusals(CollectorRegistry())
    )
    scope = {"type": "http", "path": "/jobs", "method": "GET", "app": Starlette()}
    scope["headers"] = [(b"authorization", f"Bearer {KEY}".encode())]
    with pytest.raises(error):
        asyncio.run(cut(scope, None, None))  # type: ignore[arg-type]
    assert [record.access["status"] for record in caplog.records] == [status]


@pytest.mark.parametrize("path", sorted(OPEN))
def test_public_routes(locked: Service, path: str) -> None:
    response = locked.client.get(path, headers={"host": "clip.example.org"})
    assert response.status_code in ({200, 503} if path == "/readyz" else {200})
    assert KEY not in response.text


def test_a_request_without_a_key_is_refused_before_the_body_is_read(locked: Service) -> None:
    head = b"POST /adapt HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    with listening(locked.app) as port:
        response = exchange(port, head + b"Content-Length: 500000000\r\n\r\n", patience=2)
    assert_problem(response, 401, "unauthorized")
    # Otherwise the rest of the body would be read as the next request.
    assert response.headers["connection"] == "close"


# --- without a key ---


def call(service: Service, host: str, origin: str | None = None) -> httpx.Response:
    headers = {"host": host} if origin is None else {"host": host, "origin": origin}
    return service.client.get("/jobs", headers=headers)


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost:8000", "127.0.0.1", "LOCALHOST", "[::1]:8000", "127.1.2.3"]
)
def test_this_machine(unchanged: Service, host: str) -> None:
    assert call(unchanged, host).status_code == 200
    assert call(unchanged, host, f"http://{host}").status_code == 200
    headers = {"host": host, "sec-fetch-site": "same-origin"}
    assert unchanged.client.get("/jobs", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "evil.example:8000",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "[::2]:80",
        ),
        *("192.168.1.5", "", "[", "0.0.0.0", "127.0.0.1@evil.example", "evil.example@127.0.0.1.x"),
        *("evil@127.0.0.1", "127.0.0.1/evil.example", "127.0.0.1#evil.example", "127.0.0.1:8000:80"),
    ],
)
def test_a_foreign_host(unchanged: Service, host: str) -> None:
    assert_problem(
        call(unchanged, host), 403, "cross_site_request", "http://127.0.0.1.*or set CLIPCITE_ADMIN_KEY"
    )


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1.evil.example",
        "http://192.168.1.5",
        "http://127.0.0.1:3000",
        "http://localhost:8000",
        "",
        "file://",
        "http://[",
    ],
)
def test_a_foreign_origin(unchanged: Service, origin: str) -> None:
    assert_problem(call(unchanged, "127.0.0.1:8000", origin), 403, "cross_site_request")


def test_foreign_pages_reach_no_route(unchanged: Service) -> None:
    for method, path in BARE:
        response = unchanged.client.request(method, path, headers={"origin": "https://evil.example"})
        assert_problem(response, 403, "cross_site_request")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-forwarded-for", "203.0.113.5"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=203.0.113.5"),
        ("via", "1.1 proxy"),
        ("x-real-ip", "203.0.113.5"),
        ("cf-connecting-ip", "203.0.113.5"),
        ("true-client-ip", "203.0.113.5"),
        ("x-client-ip", "203.0.113.5"),
        ("x-envoy-external-address", "203.0.113.5"),
        ("tailscale-user-login", "ann@example.com"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ],
)
def test_a_proxy_and_another_site(unchanged: Service, locked: Service, header: str, value: str) -> None:
    headers = {"host": "127.0.0.1:8000", header: value}
    assert_problem(unchanged.client.get("/jobs", headers=headers), 403, "cross_site_request")
    headers["authorization"] = f"bearer {KEY}"  # in any case
    assert locked.client.get("/jobs", headers={**headers, "host": "clip.example.org"}).status_code == 200


# --- listen addresses ---


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_loopback_needs_no_key(host: str, tmp_path: Path) -> None:
    assert is_loopback(host)
    assert startup_error(Settings(host=host, require_token=True, data=tmp_path)) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", "localhost.example.org"])
def test_other_addresses_need_the_token_or_a_key(host: str, tmp_path: Path) -> None:
    assert not is_loopback(host)
    refusal = startup_error(Settings(host=host, require_token=False, data=tmp_path / "data"))
    assert refusal is not None
    assert "Leave out --no-token" in refusal
    assert "127.0.0.1" in refusal
    assert startup_error(Settings(host=host, require_token=False, admin_key="x" * 16)) is None
    assert startup_error(Settings(host=host, require_token=True, data=tmp_path)) is None


@pytest.mark.parametrize("key", ["", "short", "x" * 15])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_short_key_is_refused(host: str, key: str) -> None:
    refusal = startup_error(Settings(host=host, admin_key=key))
    assert refusal is not None
    assert "fewer than 16 characters" in refusal
    assert key == "" or key not in refusal
