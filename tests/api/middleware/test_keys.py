"""API keys in the database: scopes, expiry, quotas and owners."""

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update
from starlette.datastructures import Headers

from api.middleware.auth import AuthMiddleware, needed_scopes
from api.startup import startup_error
from api.threads import REQUESTS
from core.admission import ServerBusy
from core.settings import Settings
from core.store.accounts import api_keys
from core.store.db.tables import ApiKey
from tests.api.conftest import MakeService
from tests.api.middleware.keys import KEY, NEVER, auth_of, get, make
from tests.api.routes import NOTHING, ROUTES
from tests.api.service import Service, assert_problem, exchange, form, listening, shots
from tests.service.running import wait_for


def test_a_key_works_until_it_is_revoked(either: Service) -> None:
    made = make(either.database)
    assert get(either, made.key).status_code == 200
    assert_problem(get(either, NEVER), 401, "unauthorized", "clipcite keys create")
    with either.database.write() as session:
        api_keys.revoke(session, made.row.id)
    refused = get(either, made.key)
    assert_problem(refused, 401, "key_revoked", "Ask the operator for another")
    assert refused.headers["www-authenticate"] == "Bearer"
    assert made.key not in refused.text


@pytest.mark.slow
def test_look_ups_that_hang_delay_no_other_key_and_leave_nothing(
    fresh: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One key holds half of the threads. The other look-ups wait, are refused, and no key stays in memory."""
    made = make(fresh.database)
    auth = auth_of(fresh)
    go_on = threading.Event()
    look_up = AuthMiddleware._look_up

    def slow(key: str) -> Any:
        assert key == made.key or go_on.wait(600)
        return look_up(auth, key)

    async def run() -> tuple[int, list[str]]:
        many = [asyncio.create_task(auth._caller(bearer(NEVER))) for _ in range(200)]
        await asyncio.sleep(0)
        assert (await auth._caller(bearer(made.key))).owner == "team"
        keys = (bearer(f"{made.key[:-4]}{i:04}") for i in range(200))
        others = waiting = {asyncio.create_task(auth._caller(key)) for key in keys}
        while len(waiting) > 20:
            waiting = (await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED))[1]
        go_on.set()
        ended = await asyncio.gather(*others, return_exceptions=True)
        refused = sum(isinstance(error, ServerBusy) for error in ended)
        await asyncio.gather(*many, return_exceptions=True)
        del many, others, waiting, ended
        await asyncio.sleep(0)  # The event loop holds the result of the last `gather`, and so its errors.
        gc.collect()
        return refused, list(REQUESTS._limits.get())

    monkeypatch.setattr(auth, "_look_up", slow)
    monkeypatch.setattr(REQUESTS, "wait_seconds", 0.5)
    refused, left = asyncio.run(run())
    assert refused >= 180
    assert not left  # of 202 keys


def bearer(key: str) -> Headers:
    return Headers({"authorization": f"Bearer {key}"})


def test_after_the_first_key_every_request_needs_one(fresh: Service) -> None:
    """This holds even on loopback, and when every key is revoked."""
    assert get(fresh, None).status_code == 200
    made = make(fresh.database)
    auth_of(fresh)._keys_asked = -10  # One second later the cache has expired.
    assert_problem(get(fresh, None), 401, "unauthorized")
    assert_problem(fresh.adapt(**shots()), 401, "unauthorized")
    with fresh.database.write() as session:
        api_keys.revoke(session, made.row.id)
    assert_problem(get(fresh, None), 401, "unauthorized")
    assert get(fresh, None, "/healthz").status_code == 200


def test_the_key_of_the_environment_also_works(make_service: MakeService) -> None:
    service = make_service(admin_key=KEY)
    made = make(service.database, "default")
    job = service.client.post("/adapt", **form(**shots()), headers={"authorization": f"Bearer {KEY}"})
    assert job.status_code == 202
    for key in (KEY, made.key):  # Both keys belong to the default owner.
        assert [one["id"] for one in get(service, key).json()["data"]] == [job.json()["id"]]
    assert get(service, KEY, "/metrics").status_code == 200


def test_no_key_is_in_what_is_stored_or_logged(fresh: Service, caplog: pytest.LogCaptureFixture) -> None:
    made = make(fresh.database)
    with caplog.at_level(0):
        for key in (made.key, NEVER):
            get(fresh, key)
            get(fresh, key, f"/jobs/{key[:12]}")
    assert made.key not in caplog.text
    assert NEVER not in caplog.text
    path = fresh.settings.data / "clipcite.db"
    stored = b"".join(p.read_bytes() for p in path.parent.glob(f"{path.name}*"))
    assert made.row.prefix.encode() in stored
    assert made.key[11:].encode() not in stored


def test_the_last_use_is_not_written_in_the_path_of_the_request(fresh: Service) -> None:
    """While another transaction holds the database, requests with a key are answered, and written later."""

    def last_use() -> Any:
        with fresh.database.read() as session:
            return api_keys.list_all(session)[0].last_used_at

    made = make(fresh.database)
    with fresh.database.write() as other:
        other.execute(update(ApiKey).values(name="laptop"))
        assert get(fresh, made.key).status_code == 200
        assert last_use() is None
    wait_for(last_use)


# --- scopes ---


@pytest.fixture(scope="module")
def scoped(new_service: Callable[..., Any]) -> Any:
    with new_service() as service:
        yield (
            service,
            {scope: make(service.database, "default", scopes=[scope]).key for scope in api_keys.SCOPES},
        )


@pytest.mark.parametrize("scope", api_keys.SCOPES)
def test_scopes(scoped: tuple[Service, dict[str, str]], scope: str) -> None:
    service, made = scoped
    headers = {"authorization": f"Bearer {made[scope]}"}
    for (method, path), row in ROUTES.items():
        response = service.client.request(method, path.format_map(NOTHING), headers=headers)
        if scope in {*row.scopes.split(), "admin"}:
            assert response.status_code == row.bare, response.text
        else:
            needed = " or ".join(row.scopes.split())
            assert_problem(response, 403, "missing_scope", rf"scope {needed}\. Yours has {scope}")


@pytest.mark.parametrize(
    "path", ["/", "/adapt/x/../../metrics", "//jobs", "/Jobs", "/jobs\n", "/models/a/export/b", "/keys"]
)
def test_unlisted_routes_need_the_admin_scope(path: str) -> None:
    needed = needed_scopes("GET", path)
    assert needed in ({"admin"}, {"adapt"})
    assert needed == {"admin"} or path.startswith(("/adapt/", "/models/a/"))


def test_without_the_scope_no_body_is_read(scoped: tuple[Service, dict[str, str]]) -> None:
    service, made = scoped
    head = (
        "POST /adapt HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Authorization: Bearer {made['classify']}\r\nContent-Length: 500000000\r\n\r\n"
    )
    with listening(service.app) as port:
        response = exchange(port, head.encode(), patience=10)
    assert response is not None
    assert_problem(response, 403, "missing_scope")


# --- listen addresses ---


def test_keys_in_the_database_allow_any_address(fresh: Service) -> None:
    settings = Settings(data=fresh.settings.data, host="0.0.0.0", require_token=False)
    assert "clipcite keys create" in (startup_error(settings) or "")
    made = make(fresh.database)
    assert startup_error(settings) is None
    with fresh.database.write() as session:
        api_keys.revoke(session, made.row.id)
    assert startup_error(settings) is not None


def test_off_loopback_every_request_needs_a_key(make_service: MakeService) -> None:
    """This holds even if every key is removed after the start."""
    service = make_service(host="0.0.0.0")
    assert_problem(get(service, None), 401, "unauthorized")
