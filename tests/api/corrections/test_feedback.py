"""Corrections of a model: stored with its job, and used by `extend` alone."""

import threading
from functools import partial
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update

from admin.snapshots import verify_installation
from api import quotas
from api.corrections import routes
from core.store.db.session import database_now
from core.store.db.tables import Deletion, JobImage
from core.store.jobs import jobs
from tests.api import crafted
from tests.api.service import Service, assert_problem, form, shots
from tests.core.store import samples
from tests.core.store.races import at_once
from worker.dispatcher.cleanup import finish_deletions

FOX, OTHER = crafted.jpeg(9001), crafted.jpeg(9002)


@pytest.fixture
def trained(either: Service) -> tuple[Service, str, str]:
    """Return a service, a model of fox and badger, and its job with 4 images of each."""
    job = either.accepted(**shots(("fox", "badger")), name="animals")
    claim = samples.claimed(either.database, job["id"])
    made = samples.new_model(name="animals", classes=["fox", "badger"])
    assert samples.publish(either.database, claim, made)
    return either, made.id, job["id"]


def correct(service: Service, model: str, *given: tuple[bytes, str]) -> httpx.Response:
    files = [(f"{number}.jpg", data) for number, (data, _) in enumerate(given)]
    body = form(images=files, labels=[name for _, name in given])
    return service.client.post(f"/models/{model}/feedback", **body)


def corrected(service: Service, model: str, *given: tuple[bytes, str]) -> list[dict[str, Any]]:
    answer = correct(service, model, *given)
    assert answer.status_code == 201, answer.text
    return list(answer.json()["data"])


def listed(service: Service, model: str) -> list[dict[str, Any]]:
    return list(service.client.get(f"/models/{model}/feedback").json()["data"])


def image_bytes(service: Service) -> int:
    with service.database.read() as session:
        return quotas.stored_bytes(session, "default")


def blobs_below(service: Service, job: str) -> int:
    return len(service.blobs.list(jobs.blobs_of(job)))


def clean_up(service: Service) -> None:
    """Do all deletions, even if they are due in a day."""
    with service.database.write() as session:
        session.execute(update(Deletion).values(due_at=database_now(session)))
    finish_deletions(service.database, service.blobs)


def test_a_correction_is_listed_counted_shown_and_deleted(trained: tuple[Service, str, str]) -> None:
    service, model, job = trained
    before = image_bytes(service)
    [fox] = corrected(service, "animals", (FOX, "FOX"))
    [other] = corrected(service, model, (OTHER, "hare"))
    assert listed(service, model) == [other, fox]
    assert (fox["class_name"], fox["file_name"], fox["bytes"]) == ("fox", "0.jpg", len(FOX))
    assert set(fox) == {*("id", "file_name", "class_name", "sha256", "bytes", "created_at", "position")}
    assert image_bytes(service) == before + len(FOX) + len(OTHER)
    thumbnail = service.client.get(f"/jobs/{job}/images/{fox['position']}")
    assert thumbnail.headers["content-type"] == "image/jpeg"
    with service.database.read() as session:
        key = session.get_one(JobImage, fox["id"]).blob_key
    service.blobs.delete(key)
    assert f"{key}: missing" in verify_installation(service.database, service.blobs).problems
    assert service.client.delete(f"/models/{model}/feedback/{fox['id']}").status_code == 204
    gone = service.client.delete(f"/models/{model}/feedback/{fox['id']}")
    assert_problem(gone, 404, "feedback_not_found", f"GET /models/{model}/feedback")
    assert listed(service, model) == [other]
    assert image_bytes(service) == before + len(OTHER)
    assert blobs_below(service, job) == 9


def test_other_readers_of_the_jobs_images_do_not_see_corrections(trained: tuple[Service, str, str]) -> None:
    service, model, job = trained
    corrected(service, model, (FOX, "hare"))
    assert len(service.client.get(f"/jobs/{job}/images").json()["data"]) == 8
    again = service.client.post(f"/jobs/{job}/retrain", json={})
    assert sum(count["images"] for count in again.json()["classes"]) == 8


def test_the_same_image_again_replaces_its_class(trained: tuple[Service, str, str]) -> None:
    service, model, job = trained
    [first] = corrected(service, model, (FOX, "badger"))
    before = image_bytes(service)
    [again] = corrected(service, model, (FOX, "Hare"), (FOX, "hare"))
    assert again == {**first, "class_name": "Hare"}
    assert listed(service, model) == [again]
    assert image_bytes(service) == before
    [spelled] = corrected(service, model, (OTHER, "hARE"))
    assert spelled["class_name"] == "Hare"
    clean_up(service)
    assert blobs_below(service, job) == 10


def test_two_requests_with_one_image_at_once_add_it_once(trained: tuple[Service, str, str]) -> None:
    service, model, job = trained
    answers = at_once(*[lambda: correct(service, model, (FOX, "hare")) for _ in range(4)])
    assert [answer.status_code for answer in answers] == [201] * 4
    assert len(listed(service, model)) == 1
    clean_up(service)
    assert blobs_below(service, job) == 9
    assert image_bytes(service) == sum(
        [row.bytes for row in images_of(service, job)] + [samples.new_model().manifest.bytes]
    )


def test_a_new_class_gets_one_spelling_in_two_requests_at_once(
    trained: tuple[Service, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both requests have read the corrections before one of them stores its own."""
    service, model, _ = trained
    both, put_all = threading.Barrier(2), service.blobs.put_all

    def together(*given: Any) -> None:
        put_all(*given)
        both.wait(30)

    monkeypatch.setattr(service.app.state.blobs, "put_all", together)
    answers = at_once(
        *[partial(correct, service, model, (FOX, "Hare")), partial(correct, service, model, (OTHER, "hare"))]
    )
    assert [answer.status_code for answer in answers] == [201] * 2
    assert len({row["class_name"] for row in listed(service, model)}) == 1


def images_of(service: Service, job: str) -> list[JobImage]:
    """Return all rows, corrections included."""
    with service.database.read() as session:
        return list(session.scalars(select(JobImage).where(JobImage.job_id == job)))


def test_extend_trains_from_corrections(trained: tuple[Service, str, str]) -> None:
    service, model, _ = trained
    wrong = shots(("fox", "badger"))["images"][0][1]  # a training image of the fox
    corrected(service, model, (wrong, "badger"), (FOX, "hare"))
    answer = service.client.post(f"/models/{model}/extend")
    assert answer.status_code == 202, answer.text
    new = answer.json()
    assert [tuple(count.values()) for count in new["classes"]] == [
        ("badger", 5, 0),
        ("fox", 3, 0),
        ("hare", 1, 0),
    ]
    rows = {row.sha256: row for row in images_of(service, new["id"])}
    assert len(rows) == 9
    assert {row.split for row in rows.values()} == {"train"}
    assert [row.class_name for row in rows.values() if row.label_confirmed] == ["badger", "hare"]
    assert len(listed(service, model)) == 2
    more = service.client.post(f"/models/{model}/extend", **form(images=[("a.jpg", OTHER)], labels=["fox"]))
    assert sum(count["images"] for count in more.json()["classes"]) == 10


def test_a_correction_of_a_test_image_corrects_its_label(either: Service) -> None:
    held_out = {"test_images": [("held out.jpg", FOX)], "test_labels": ["fox"]}
    job = either.accepted(**shots(("fox", "badger")), **held_out)["id"]
    made = samples.new_model(classes=["fox", "badger"])
    assert samples.publish(either.database, samples.claimed(either.database, job), made)
    corrected(either, made.id, (FOX, "badger"))
    checked = either.client.post(f"/models/{made.id}/extend?dry_run=true").json()
    new = either.client.post(f"/models/{made.id}/extend").json()
    assert [tuple(count.values()) for count in new["classes"]] == [("fox", 4, 0), ("badger", 4, 1)]
    for notice in (checked["warnings"][0], new["warnings"][0]):
        assert (notice["code"], notice["detail"][-17:]) == ("corrected_test_images", ": 'held out.jpg'.")


def test_refused_corrections_leave_nothing(
    trained: tuple[Service, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, model, _ = trained
    before = service.stored()
    unlabelled = form(images=[("a.jpg", FOX)])
    for answer, status, code in (
        (service.client.post(f"/models/{model}/feedback"), 422, "archive_or_images"),
        (service.client.post(f"/models/{model}/feedback", **unlabelled), 422, "label_count"),
        (correct(service, model, (FOX, "")), 422, "invalid_class_names"),
        (correct(service, model, (b"no image", "fox")), 422, "bad_images"),
        (correct(service, "mdl_nobody", (FOX, "fox")), 404, "model_not_found"),
        (service.client.post(f"/models/{model}/extend"), 422, "archive_or_images"),
    ):
        assert_problem(answer, status, code)
    twice = correct(service, model, (FOX, "fox"), (OTHER, "hare"), (FOX, "Hare"))
    says = "'2.jpg' has two classes in this request, 'hare' and 'fox'. Send each image once"
    assert_problem(twice, 422, "image_in_two_classes", says, errors=[{"file": "2.jpg"}])
    monkeypatch.setattr(routes, "MAX_FEEDBACK", 1)
    too_many = correct(service, model, (FOX, "fox"), (OTHER, "fox"))
    assert_problem(too_many, 409, "too_much_feedback", "maximum is 1. .*/extend")
    service.settings.max_stored_bytes = image_bytes(service) + 10
    assert_problem(correct(service, model, (FOX, "fox")), 507, "quota_stored_bytes")
    assert service.stored() == before
    with service.database.read() as session:
        pending = session.scalars(select(Deletion.prefix).where(Deletion.prefix.contains("/fbk_")))
        assert pending.all() == []


def test_a_model_without_training_images_takes_no_corrections(trained: tuple[Service, str, str]) -> None:
    service, model, job = trained
    [fox] = corrected(service, model, (FOX, "fox"))
    assert service.client.delete(f"/jobs/{job}").status_code == 204
    assert blobs_below(service, job) == 0
    assert listed(service, model) == []
    assert_problem(correct(service, model, (FOX, "fox")), 409, "training_images_gone", "POST /adapt")
    lost = service.client.delete(f"/models/{model}/feedback/{fox['id']}")
    assert_problem(lost, 404, "feedback_not_found")


def test_a_job_that_is_deleted_meanwhile_keeps_no_file(
    trained: tuple[Service, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, model, job = trained
    put_all = service.blobs.put_all

    def deleted_before(contents: Any) -> None:
        assert service.client.delete(f"/jobs/{job}").status_code == 204
        put_all(contents)

    monkeypatch.setattr(type(service.blobs), "put_all", lambda _, contents: deleted_before(contents))
    assert_problem(correct(service, model, (FOX, "fox")), 409, "training_images_gone")
    assert blobs_below(service, job) == 0
