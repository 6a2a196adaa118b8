"""/healthz reports a live process; /readyz reports readiness, with reasons if not ready."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from api.ops import health
from core.clip.models import backbones
from core.store.db.ids import new_id
from core.store.db.session import Database
from core.store.storage import installation
from core.store.storage.blobs import Blobs
from tests.api import crafted
from tests.api.conftest import MakeService
from tests.api.service import URL, Body, Service, assert_problem, shots
from tests.conftest import postgres_database
from tests.core.clip.tiny import make_tiny_backbone
from tests.disk import small_disk
from tests.faulty import faulty
from tests.hub import Hub
from tests.servers import bucket_access
from tests.service.running import wait_for

PARTS = {"database", "storage", "backbone", "broker"}


def ready(service: Service, status: int) -> Body:
    response = service.client.get("/readyz")
    assert response.status_code == status, response.text
    body: Body = response.json()
    assert set(body) == {"status", "parts", "preparing", "version", "backbone", "device"}
    assert body["status"] != "ok" or body["preparing"] is None
    kind, _, place = service.settings.backbone.partition(":")
    assert body["backbone"] == f"{kind}:{Path(place).name if kind == 'local-dir' else place}"
    assert body["device"] in {"cpu", "cuda"}
    assert set(body["parts"]) == PARTS
    for part in body["parts"].values():
        assert set(part) == {"status", "reason"}
        assert (part["status"] == "ok") == (part["reason"] is None)
    assert service.client.get("/healthz").json() == {"status": "ok"}
    return body


def bad_parts(body: Body) -> dict[str, str]:
    return {name: part["reason"] for name, part in body["parts"].items() if part["status"] != "ok"}


def loaded(service: Service) -> Service:
    service.app.state.serving.warm_up()
    return service


@pytest.fixture
def make_service(make_service: MakeService, redis_url: str) -> MakeService:
    return lambda **given: make_service(**{"redis_url": redis_url, **given})


def test_ready(make_service: MakeService, database_url: str) -> None:
    body = ready(loaded(make_service(database_url=database_url)), 200)
    assert body["status"] == "ok"
    assert bad_parts(body) == {}


def test_the_backbone_is_loaded_at_the_start(fresh: Service) -> None:
    """/readyz turns to 200 without any request; /healthz answers meanwhile."""
    assert ready(fresh, 503)["parts"]["backbone"]["status"] == "unavailable"
    with TestClient(fresh.app, URL) as client:
        assert client.get("/healthz").status_code == 200
        wait_for(lambda: client.get("/readyz").status_code == 200)


@pytest.mark.slow
def test_a_download_is_shown_while_it_runs(make_service: MakeService, hub: Hub, tmp_path: Path) -> None:
    make_tiny_backbone(tmp_path / "repository")
    hub.add("tests/tiny", tmp_path / "repository")
    service = make_service(backbone="hf-hub:tests/tiny")
    size = sum(path.stat().st_size for path in (tmp_path / "repository").iterdir())
    name = "hf-hub:tests/tiny"
    waiting = {"what": f"Loading {name}", "done_bytes": None, "total_bytes": None}
    assert ready(service, 503)["preparing"] == waiting
    hub.delay_seconds = 0.1
    download = backbones.start(name, service.settings.cache)
    shown = wait_for(
        lambda: ((now := ready(service, 503)["preparing"])["done_bytes"] or 0) > 1_000_000 and now
    )
    assert shown["what"] == f"Downloading {name}"
    assert shown["done_bytes"] < shown["total_bytes"] == size
    hub.delay_seconds = 0
    backbones.finish(download)
    assert ready(loaded(service), 200)["preparing"] is None


def test_the_first_check_gives_a_new_storage_its_id_and_leaves_nothing_else(fresh: Service) -> None:
    fresh.blobs.delete(installation.KEY)
    ready(loaded(fresh), 200)
    assert [path.name for path in (fresh.settings.data / "blobs").iterdir()] == [installation.KEY]
    with fresh.database.read() as session:
        assert json.loads(fresh.blobs.get(installation.KEY)) == {"id": installation.find(session).id}


def test_the_storage_is_rarely_asked(fresh: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "GOOD_SECONDS", -1)  # Each request is a check of its own.
    asked: list[str] = []
    for name in ("put_all", "get", "list", "delete_prefix"):
        real = getattr(Blobs, name)

        def counted(self: Blobs, *given: Any, real: Any = real, name: str = name) -> Any:
            asked.append(name)
            return real(self, *given)

        monkeypatch.setattr(Blobs, name, counted)
    ready(loaded(fresh), 200)
    once = ["get", "put_all", "get"]  # The id of the installation, then a blob that is written and read.
    assert asked == once
    for _ in range(20):
        assert fresh.client.get("/readyz").status_code == 200
    assert asked == once
    fresh.app.state.checks._storage_good_until = 0
    ready(fresh, 200)
    assert asked == once * 2


@pytest.mark.parametrize("has_id", [True, False])
def test_with_the_storage_of_another_database_it_is_unavailable(fresh: Service, has_id: bool) -> None:
    """The database was lost and replaced by an empty one. A person can assign the storage to it."""
    fresh.blobs.put(f"jobs/{new_id('job')}/0", b"x")
    if has_id:
        fresh.blobs.put(installation.KEY, b'{"id": "ins_lost"}')
    else:
        fresh.blobs.delete(installation.KEY)
    body = ready(loaded(fresh), 503)
    bad = bad_parts(body)
    assert set(bad) == {"storage"}
    assert "installation.json" in bad["storage"]
    assert ("ins_lost" in bad["storage"]) == has_id
    before = fresh.stored()
    assert_problem(fresh.adapt(**shots()), 503, "storage_unavailable", "operator")
    assert fresh.stored() == before
    written = re.search(r'write (\{"id": "ins_\w+"\}) into its installation.json', bad["storage"])
    fresh.blobs.put(installation.KEY, f"{written[1]}\n".encode())
    fresh.app.state.checks = health.Checks(fresh.app.state)
    assert ready(fresh, 200)["status"] == "ok"
    fresh.accepted(**shots())


def test_an_empty_storage_in_place_of_its_own_is_unavailable(fresh: Service, tmp_path: Path) -> None:
    """The mount was lost: its mount point is an empty folder. It comes back without a restart."""
    ready(loaded(fresh), 200)
    fresh.accepted(**shots())
    blobs = fresh.settings.data / "blobs"
    blobs.rename(tmp_path / "unmounted")
    blobs.mkdir()
    fresh.app.state.checks = health.Checks(fresh.app.state)  # As after a restart.
    bad = bad_parts(ready(fresh, 503))
    assert set(bad) == {"storage"}
    assert "installation.json" in bad["storage"]
    archive = {"archive": ("model.zip", b"a model")}
    for refused in (fresh.adapt(**shots()), fresh.client.post("/models", files=archive)):
        assert_problem(refused, 503, "storage_unavailable", "The storage can't be found.")
    assert list(blobs.iterdir()) == []
    blobs.rmdir()
    (tmp_path / "unmounted").rename(blobs)
    fresh.app.state.checks = health.Checks(fresh.app.state)
    ready(fresh, 200)
    fresh.accepted(**shots())


@pytest.mark.slow
def test_without_the_broker_it_is_degraded(make_service: MakeService) -> None:
    service = loaded(make_service(redis_url="redis://:secret@127.0.0.1:1/0"))
    body = ready(service, 200)
    assert body["status"] == "degraded"
    bad = bad_parts(body)
    assert set(bad) == {"broker"}
    assert "Jobs are safe" in bad["broker"]
    assert "secret" not in str(body)
    service.accepted(**shots())  # Jobs are still accepted.


def assert_classifies(service: Service) -> None:
    image = {"images": ("a.jpg", crafted.jpeg())}
    response = service.client.post("/classify", data={"class_names": ["red", "green"]}, files=image)
    assert response.status_code == 200


def test_with_a_read_only_database_it_is_degraded(
    make_service: MakeService, postgres_url: str, postgres_template: str
) -> None:
    """After a failover images are still classified, and jobs are refused until a server can write."""
    with postgres_database(postgres_url, postgres_template) as url:
        service = loaded(make_service(database_url=url))
        assert ready(service, 200)["status"] == "ok"
        operator = Database(url)

        def make_read_only(value: str) -> None:
            setting = f'"{operator.engine.url.database}" SET default_transaction_read_only = {value}'
            with operator.write() as session:
                session.execute(text(f"ALTER DATABASE {setting}"))

        make_read_only("on")
        service.app.state.database.engine.dispose()
        assert_problem(service.adapt(**shots()), 503, "database_unavailable", "The database")
        service.app.state.checks = health.Checks(service.app.state)
        body = ready(service, 200)
        assert body["status"] == "degraded"
        assert "read-only" in bad_parts(body)["database"]
        assert "CLIPCITE_DATABASE_URL" in bad_parts(body)["database"]
        assert_classifies(service)
        make_read_only("off")  # The check has closed its own connection, which would stay read-only.
        wait_for(lambda: ready(service, 200)["status"] == "ok")
        service.accepted(**shots())
        operator.close()


def test_with_a_bucket_that_refuses_writes_it_is_degraded(
    make_service: MakeService, s3_endpoint: str, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images are still classified. A moment after the bucket accepts writes again, all is well."""
    with faulty(s3_endpoint) as faults:
        for name, value in bucket_access(faults.url).items():
            monkeypatch.setenv(name, value)
        service = loaded(make_service(blob_url=f"s3://{s3_bucket}"))
        assert ready(service, 200)["status"] == "ok"
        service.app.state.checks = health.Checks(service.app.state)
        faults.expect("PUT", "403")
        body = ready(service, 200)
        assert body["status"] == "degraded"
        assert "CLIPCITE_BLOB_URL" in bad_parts(body)["storage"]
        assert "403" in bad_parts(body)["storage"]
        assert_classifies(service)
        wait_for(lambda: ready(service, 200)["status"] == "ok")
        service.accepted(**shots())


@pytest.mark.slow
@pytest.mark.mounts
def test_with_a_folder_on_a_read_only_mount_it_is_degraded(
    new_service: Callable[..., AbstractContextManager[Service]], tmp_path: Path
) -> None:
    """A namespace has no Redis of another user, so this service has none."""
    with small_disk(tmp_path / "disk", 64) as disk, new_service(blob_url=disk.as_uri()) as service:
        assert "storage" not in bad_parts(ready(loaded(service), 200))
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        reason = wait_for(lambda: bad_parts(ready(service, 200)).get("storage"))
        assert f"disk of {disk} is full or read-only" in reason
        assert_problem(service.adapt(**shots()), 503, "storage_unavailable", "operator")
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        wait_for(lambda: "storage" not in bad_parts(ready(service, 200)))
        service.accepted(**shots())


def test_without_a_database(make_service: MakeService) -> None:
    url = "postgresql://nobody:secret@127.0.0.1:1/none"
    body = ready(loaded(make_service(database_url=url)), 503)
    bad = bad_parts(body)
    assert set(bad) == {"database"}
    assert "CLIPCITE_DATABASE_URL" in bad["database"]
    assert "secret" not in str(body)


def test_a_storage_that_is_no_longer_a_folder(fresh: Service) -> None:
    folder = fresh.settings.data / "blobs"
    shutil.rmtree(folder)
    folder.write_text("in the way")
    bad = bad_parts(ready(loaded(fresh), 503))
    assert set(bad) == {"storage"}
    assert str(folder) in bad["storage"]


@pytest.mark.parametrize(
    ("part", "value"), [("MIN_FREE_BYTES", 2**60), ("tempfile.TemporaryFile", lambda dir: dir.rmdir())]
)
def test_a_full_disk(fresh: Service, monkeypatch: pytest.MonkeyPatch, part: str, value: object) -> None:
    monkeypatch.setattr(f"api.ops.health.{part}", value)
    assert f"disk of {fresh.settings.data} is full" in bad_parts(ready(loaded(fresh), 200))["storage"]


def test_a_damaged_backbone(make_service: MakeService, tmp_path: Path) -> None:
    """The reason is reported. After a repair the next request loads the backbone."""
    folder = tmp_path / "net"
    name = make_tiny_backbone(folder)
    weights = folder / "open_clip_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(b"damaged")
    service = make_service(backbone=name)
    with TestClient(service.app, URL) as client:  # The application's start loads the backbone.
        wait_for(lambda: "still being loaded" not in bad_parts(ready(service, 503))["backbone"])
        assert str(folder) in bad_parts(ready(service, 503))["backbone"]
        weights.write_bytes(content)
        image = [("images", ("a.jpg", crafted.jpeg()))]
        assert client.post("/classify", data={"class_names": ["oak"]}, files=image).status_code == 200
        assert bad_parts(ready(service, 200)) == {}


def test_without_the_backbone_it_is_not_ready(make_service: MakeService, tmp_path: Path) -> None:
    service = make_service(backbone=f"local-dir:{tmp_path}/none")
    assert set(bad_parts(ready(service, 503))) == {"backbone"}
    service.accepted(**shots())  # Jobs are accepted: the worker loads its own backbone.
