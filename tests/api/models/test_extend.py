"""POST /models/{id}/adapt: training from a model's stored images and the uploaded ones."""

from typing import Any

import httpx
import pytest

from core.clip.config import resolve_config
from core.store.jobs import jobs
from core.store.storage import installation
from core.store.storage.blobs import Blobs
from tests.api import crafted
from tests.api.service import Service, assert_problem, form, shots
from tests.core.store import samples


@pytest.fixture
def model(fresh: Service) -> tuple[Service, str, str]:
    """Return the service and a model of fox and badger: 4 images each, with its own settings."""
    upload = shots(("fox", "badger"))
    job = fresh.accepted(**upload, name="animals", config={"epochs": 3, "alpha": 0.25, "seed": 7})
    claim = samples.claimed(fresh.database, job["id"])
    made = samples.new_model(name="animals", classes=["fox", "badger"])
    assert samples.publish(fresh.database, claim, made)
    return fresh, made.id, job["id"]


def extend(service: Service, model_id: str, **fields: Any) -> httpx.Response:
    return service.client.post(f"/models/{model_id}/extend", **form(**fields))


def more(*classes: str, each: int = 3) -> dict[str, Any]:
    files = [
        (f"new-{c}-{i}.jpg", crafted.jpeg(9000 + 10 * c + i))
        for c in range(len(classes))
        for i in range(each)
    ]
    return {"images": files, "labels": [name for name in classes for _ in range(each)]}


def test_a_further_class_and_more_images_of_an_existing_one(model: tuple[Service, str, str]) -> None:
    service, model_id, first = model
    answer = extend(service, model_id, **more("FOX", "hare"))
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert job["id"] != first
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert job["name"] == "animals"
    assert job["classes"] == [
        {"name": "fox", "images": 7, "test_images": 0},
        {"name": "badger", "images": 4, "test_images": 0},
        {"name": "hare", "images": 3, "test_images": 0},
    ]
    with service.database.read() as session:
        rows = jobs.images(session, job["id"])
        before = jobs.images(session, first)
    assert [row.position for row in rows] == list(range(14))
    assert {row.blob_key.split("/")[1] for row in rows} == {job["id"]}
    assert {row.sha256 for row in before} < {row.sha256 for row in rows}
    assert {row.file_name for row in before} < {row.file_name for row in rows}
    assert service.client.get(f"/models/{model_id}").status_code == 200


def test_settings_default_to_the_models(model: tuple[Service, str, str]) -> None:
    service, model_id, first = model
    before = service.client.get(f"/jobs/{first}").json()["config"]
    same = extend(service, model_id, **more("hare")).json()["config"]
    assert same == before
    assert (same["epochs"], same["alpha"], same["seed"]) == (3, 0.25, 7)
    changed = extend(service, model_id, **more("hare"), config={"epochs": 5}).json()["config"]
    assert changed == {**before, "epochs": 5}
    assert changed != resolve_config(backbone=before["backbone"]).model_dump()


def test_the_new_job_does_not_depend_on_the_old_one(model: tuple[Service, str, str]) -> None:
    service, model_id, first = model
    job = extend(service, model_id, **more("hare")).json()["id"]
    assert service.client.delete(f"/jobs/{first}").status_code == 204
    kept = [b.key for b in service.blobs.list(f"jobs/{job}") if b.key.endswith(".image")]
    assert len(kept) == 11
    answer = extend(service, model_id, **more("hare"))
    assert_problem(answer, 409, "training_images_gone", "Send all images to POST /adapt")


def test_a_dry_run_checks_stored_and_uploaded_images(model: tuple[Service, str, str]) -> None:
    service, model_id, _ = model
    before = service.stored()
    same = shots(("fox", "badger"))  # These images are exact duplicates of stored ones.
    answer = service.client.post(
        f"/models/{model_id}/extend",
        params={"dry_run": True},
        **form(images=same["images"][:1], labels=["fox"]),
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["images"] == 9
    assert "duplicates" in {warning["code"] for warning in answer.json()["warnings"]}
    assert service.stored() == before


def test_models_that_cannot_be_extended(model: tuple[Service, str, str]) -> None:
    service, model_id, _ = model
    assert_problem(extend(service, "mdl_nobody", **more("hare")), 404, "model_not_found")
    assert_problem(extend(service, model_id), 422, "archive_or_images")
    assert_problem(extend(service, model_id, **more("hare"), config="[1]"), 422, "invalid_request", "object")
    for config in ({"nonsense": 1}, {"backbone": ["x"]}, {"backbone": {}}):
        assert_problem(extend(service, model_id, **more("hare"), config=config), 422, "invalid_request")
    bad = {"images": [("a.jpg", b"no image")], "labels": ["hare"]}
    assert_problem(extend(service, model_id, **bad), 422, "bad_images")


def test_stored_and_uploaded_images_share_the_limits(model: tuple[Service, str, str]) -> None:
    service, model_id, _ = model
    service.settings.max_images = 10
    answer = extend(service, model_id, **more("hare"))
    assert_problem(answer, 413, "too_many_images", "11 images with the .* stored ones.*maximum is 10")


def test_an_invalid_form_reads_no_stored_image(
    model: tuple[Service, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, model_id, _ = model
    archive = crafted.zip_of({"hare/a.jpg": crafted.jpeg()})
    forms: list[dict[str, Any]] = [
        {},
        {"images": [("a.jpg", crafted.jpeg())], "labels": []},
        {"images": [("a.jpg", b"no image")], "labels": ["hare"]},
        {"archive": archive, "config": {"epochs": "many"}},
        {"archive": archive, "webhook": "http://127.0.0.1/"},
    ]
    read: list[str] = []
    fetch, get = Blobs.fetch, Blobs.get
    monkeypatch.setattr(Blobs, "fetch", lambda *args, **kw: [read.append(args[1]), fetch(*args, **kw)])
    monkeypatch.setattr(Blobs, "get", lambda *args: [read.append(args[1]), get(*args)][1])
    for fields in forms:
        answer = extend(service, model_id, **fields)
        assert 400 <= answer.status_code < 500, answer.text
        assert read == []
    assert extend(service, model_id, **more("hare")).status_code == 202
    assert len(read) == 9
    assert read[8] == installation.KEY


def test_stored_images_count_as_temporary_files(model: tuple[Service, str, str]) -> None:
    service, model_id, _ = model
    space = service.app.state.scratch
    space.most = 2 * 8 * 500
    assert_problem(extend(service, model_id, **more("hare")), 413, "request_too_large", "4,000 bytes")
    space.most = 1_000_000
    assert extend(service, model_id, **more("hare")).status_code == 202


def test_settings_that_this_version_does_not_know_are_left_out(model: tuple[Service, str, str]) -> None:
    service, model_id, first = model
    with service.database.write() as session:
        job = jobs.get(session, first, owner="default")
        job.config = {**job.config, "momentum_of_an_older_version": 0.9}
    extended = extend(service, model_id, **more("hare"))
    assert extended.status_code == 202, extended.text
    assert extended.json()["config"]["seed"] == 7
    retrained = service.client.post(f"/jobs/{first}/retrain", json={})
    assert retrained.status_code == 202, retrained.text
