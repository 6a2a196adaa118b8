"""The token of a service without keys: who gets in, who does not, and how it ends."""

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from admin import snapshots
from api.ops.health import Checks
from api.startup import prepare_token
from clipcite.__main__ import app
from clipcite.client.address import settings_of
from core.store.accounts import api_keys, local_token
from core.store.storage import installation
from core.store.storage.blobs import Blobs
from tests.api.conftest import MakeService
from tests.api.middleware.keys import auth_of
from tests.api.routes import BARE
from tests.api.service import Service, assert_problem, exchange, listening, service, shots
from tests.core.store.races import at_once

NGINX = "GET /jobs HTTP/1.0\r\nHost: 127.0.0.1:8000\r\nConnection: close\r\nUser-Agent: curl\r\n{}\r\n"
"""Request of nginx with `proxy_pass` alone."""
STRANGER = 65_534


@pytest.fixture(scope="module")
def guarded(new_service: Callable[..., AbstractContextManager[Service]]) -> Iterator[Service]:
    with new_service(require_token=True) as made:
        yield made


def token_of(service: Service) -> str:
    return local_token.ensure(service.settings.data)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_every_route_needs_the_token(guarded: Service) -> None:
    token = token_of(guarded)
    for (method, path), status in BARE.items():
        for headers in ({}, bearer(f"{token}x")):
            refused = guarded.client.request(method, path, headers=headers)
            assert_problem(refused, 401, "token_needed", "`clipcite keys token` prints the token")
            assert refused.headers["www-authenticate"] == "Bearer"
            assert token not in refused.text
        opened = guarded.client.request(method, path, headers=bearer(token))
        assert opened.status_code == status, (method, path)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "127.0.0.1:8000"},
        {"x-forwarded-for": "203.0.113.5"},
        {"forwarded": "for=203.0.113.5"},
        {"via": "1.1 proxy"},
        {"origin": "http://localhost:3000"},
        {"origin": "http://127.0.0.1:8000", "host": "127.0.0.1:8000"},
        {"sec-fetch-site": "cross-site"},
        {"host": "evil@127.0.0.1"},
        {"host": "127.0.0.1/evil.com"},
        {"host": "127.0.0.1#evil.com"},
        {"host": "evil.example"},
    ],
    ids=str,
)
def test_no_header_replaces_the_token(guarded: Service, headers: dict[str, str]) -> None:
    """Each of these once made a stranger the admin of a service without keys, or may do so."""
    assert_problem(guarded.client.get("/jobs", headers=headers), 401, "token_needed")
    assert_problem(guarded.adapt(**shots()), 401, "token_needed")
    assert guarded.stored() == []
    assert guarded.client.get("/jobs", headers={**headers, **bearer(token_of(guarded))}).status_code == 200


def test_off_loopback(make_service: MakeService) -> None:
    """As in a container."""
    service = make_service(host="0.0.0.0", require_token=True)
    assert_problem(service.client.get("/jobs"), 401, "token_needed")
    assert service.client.get("/jobs", headers=bearer(token_of(service))).status_code == 200


def test_behind_nginx_with_proxy_pass_alone(guarded: Service) -> None:
    with listening(guarded.app) as port:
        refused = exchange(port, NGINX.format("").encode())
        assert refused is not None
        assert_problem(refused, 401, "token_needed")
        with_token = f"Authorization: Bearer {token_of(guarded)}\r\n"
        allowed = exchange(port, NGINX.format(with_token).encode())
        assert allowed.status_code == 200


def test_another_user_of_the_machine(guarded: Service) -> None:
    token = token_of(guarded)
    path = guarded.settings.data / local_token.FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_uid == os.geteuid()
    if os.geteuid():
        return  # only root can become another user
    path.parent.chmod(0o755)
    done = subprocess.run(
        ["/bin/cat", path.name],
        cwd=path.parent,
        user=STRANGER,
        group=STRANGER,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    path.parent.chmod(0o700)
    assert "Permission denied" in done.stderr
    assert token not in done.stdout


def test_a_token_that_others_could_read_is_replaced(tmp_path: Path) -> None:
    token = local_token.ensure(tmp_path)
    assert len(token) >= 43
    assert local_token.ensure(tmp_path) == token
    (tmp_path / local_token.FILE).chmod(0o644)
    assert local_token.ensure(tmp_path) != token
    assert [path.name for path in tmp_path.iterdir()] == [local_token.FILE]


def test_processes_that_start_together_have_one_token(tmp_path: Path) -> None:
    assert len(set(at_once(*[lambda: local_token.ensure(tmp_path / "data")] * 20))) == 1


def test_after_a_restore_without_keys(
    guarded: Service, tmp_path: Path, new_service: Callable[..., AbstractContextManager[Service]]
) -> None:
    """A backup has neither the keys nor the token, and its copy is not open."""
    token = token_of(guarded)
    installation.check(guarded.database, guarded.blobs, bind=True)
    backup = snapshots.Backup(tmp_path / "backup", tmp_path / "scratch")
    snapshots.create(guarded.settings.sqlalchemy_url(), guarded.database, guarded.blobs, backup)
    data = tmp_path / "copy"
    data.mkdir()
    snapshots.restore(f"sqlite:///{data}/clipcite.db", Blobs((data / "blobs").as_uri()), backup)
    assert token.encode() not in b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    with service(data, guarded.settings.backbone, require_token=True) as copy:
        assert_problem(copy.client.get("/jobs"), 401, "token_needed")
        assert_problem(copy.client.get("/jobs", headers=bearer(token)), 401, "token_needed")
        assert copy.client.get("/jobs", headers=bearer(token_of(copy))).status_code == 200


def test_the_first_key_ends_the_token(make_service: MakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    service = make_service(require_token=True)
    token = token_of(service)
    assert service.client.get("/jobs", headers=bearer(token)).status_code == 200
    monkeypatch.setenv("CLIPCITE_DATABASE_URL", service.settings.sqlalchemy_url())
    made = CliRunner().invoke(
        app, ["keys", "create", "--owner", "team", "--data", str(service.settings.data)]
    )
    assert made.exit_code == 0, made.output
    assert not (service.settings.data / local_token.FILE).exists()
    auth_of(service)._keys_asked = -10  # One second later the cache has expired.
    assert_problem(
        service.client.get("/jobs", headers=bearer(token)), 401, "unauthorized", "clipcite keys create"
    )
    with service.database.write() as session:
        for row in api_keys.list_all(session):
            api_keys.revoke(session, row.id)
    assert_problem(service.client.get("/jobs", headers=bearer(token)), 401, "unauthorized")
    prepare_token(service.settings)
    assert not (service.settings.data / local_token.FILE).exists()


def test_reasons_of_readyz_need_the_token(guarded: Service) -> None:
    guarded.app.state.checks = Checks(guarded.app.state)
    headers = [{}, bearer("wrong"), bearer(token_of(guarded))]
    reasons = [guarded.client.get("/readyz", headers=given).json()["parts"]["backbone"] for given in headers]
    assert all("with a key that has the scope admin" in reason["reason"] for reason in reasons[:2])
    assert "with a key that has the scope admin" not in reasons[2]["reason"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost:9", "http://[::1]:1", None])
def test_the_client_reads_the_token_for_loopback(
    url: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CLIPCITE_API_KEY", raising=False)
    monkeypatch.delenv("CLIPCITE_URL", raising=False)
    monkeypatch.setenv("CLIPCITE_DATA", str(tmp_path))
    assert "Authorization" not in settings_of(url, None)["headers"]
    token = local_token.ensure(tmp_path)
    assert settings_of(url, None)["headers"]["Authorization"] == f"Bearer {token}"
    assert settings_of(url, "mine")["headers"]["Authorization"] == "Bearer mine"
    monkeypatch.setenv("CLIPCITE_API_KEY", "theirs")
    assert settings_of(url, None)["headers"]["Authorization"] == "Bearer theirs"


@pytest.mark.parametrize("url", ["https://clip.example.org", "http://192.168.1.5", "http://127.0.0.1.evil"])
def test_the_client_sends_the_token_nowhere_else(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CLIPCITE_API_KEY", raising=False)
    monkeypatch.setenv("CLIPCITE_DATA", str(tmp_path))
    local_token.ensure(tmp_path)
    assert "Authorization" not in settings_of(url, None)["headers"]
