"""POST /jobs/{id}/retrain: training again from stored images with corrected labels."""

from typing import Any

import httpx
import pytest
from sqlalchemy import update

from core.clip.config import resolve_config
from core.clip.data.decoders import Decoders
from core.store.db.tables import JobImage
from core.store.jobs import jobs
from tests.api.service import Service, assert_problem, shots


@pytest.fixture
def trained(fresh: Service) -> tuple[Service, str]:
    """Return a service and a job of fox and badger: 4 images each, with its own settings."""
    job = fresh.accepted(**shots(("fox", "badger")), name="animals", config={"epochs": 3, "seed": 7})
    return fresh, job["id"]


def retrain(service: Service, job: str, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    return service.client.post(f"/jobs/{job}/retrain", json=body, headers=headers)


def rows(service: Service, job: str) -> list[tuple[str, str, bool]]:
    with service.database.read() as session:
        return [(row.file_name, row.class_name, row.label_confirmed) for row in jobs.images(session, job)]


def test_labels_are_corrected(trained: tuple[Service, str]) -> None:
    service, first = trained
    before = rows(service, first)
    answer = retrain(service, first, moved={"1": "Badger", "2": "hare"}, removed=[4], confirmed=[0])
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert job["classes"] == [
        {"name": "fox", "images": 2, "test_images": 0},
        {"name": "badger", "images": 4, "test_images": 0},
        {"name": "hare", "images": 1, "test_images": 0},
    ]
    assert job["warnings"] == [] or "merged_class_names" not in {w["code"] for w in job["warnings"]}
    assert rows(service, job["id"]) == [
        ("0-0.jpg", "fox", True),
        ("0-1.jpg", "badger", True),
        ("0-2.jpg", "hare", True),
        ("0-3.jpg", "fox", False),
        ("1-1.jpg", "badger", False),
        ("1-2.jpg", "badger", False),
        ("1-3.jpg", "badger", False),
    ]
    assert rows(service, first) == before
    assert service.client.delete(f"/jobs/{first}").status_code == 204
    with service.database.read() as session:
        assert all(service.blobs.get(row.blob_key) for row in jobs.images(session, job["id"]))


def test_a_dry_run_stores_nothing(trained: tuple[Service, str]) -> None:
    service, first = trained
    before = service.stored()
    answer = service.client.post(f"/jobs/{first}/retrain?dry_run=true", json={"removed": [4]})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["object"], answer.json()["images"]) == ("preflight", 7)
    assert service.stored() == before


def test_a_stored_image_is_decoded_once(
    trained: tuple[Service, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its statistics are stored. Those that an older version did not measure are measured and stored."""
    service, first = trained
    decoded: list[int] = []
    decode = Decoders._decode

    def counted(self: Decoders, *given: Any) -> Any:
        decoded.append(len(given[0]))
        return decode(self, *given)

    monkeypatch.setattr(Decoders, "_decode", counted)

    def stats(job: str) -> list[Any]:
        with service.database.read() as session:
            return [row.stats for row in jobs.images(session, job)]

    measured = stats(first)
    second = retrain(service, first).json()["id"]
    assert decoded == []
    assert stats(second) == measured
    assert len({each["thumbnail"] for each in measured}) == 8
    with service.database.write() as session:
        session.execute(update(JobImage).where(JobImage.position < 3).values(stats=None))
    third = retrain(service, first).json()["id"]
    assert len(decoded) == 3
    assert stats(third) == measured


def test_name_and_settings_default_to_the_jobs(trained: tuple[Service, str]) -> None:
    service, first = trained
    before = service.client.get(f"/jobs/{first}").json()
    same = retrain(service, first).json()
    assert (same["name"], same["config"]) == (before["name"], before["config"])
    nothing = retrain(service, first, config=dict.fromkeys(before["config"])).json()
    assert nothing["config"] == before["config"]  # generated clients send null for what is not set
    other = retrain(service, first, name="beasts", config={"epochs": 5}).json()
    assert (other["name"], other["config"]) == ("beasts", {**before["config"], "epochs": 5})


def test_corrections_are_remembered(trained: tuple[Service, str]) -> None:
    service, first = trained
    second = retrain(service, first, confirmed=[3]).json()["id"]
    third = retrain(service, second).json()["id"]
    assert [confirmed for _, _, confirmed in rows(service, third)].index(True) == 3


def test_wrong_corrections_change_nothing(trained: tuple[Service, str]) -> None:
    service, first = trained
    before = service.stored()
    answer = retrain(service, first, moved={"8": "fox", "1": " "}, removed=[2, 2], confirmed=[1])
    errors = assert_problem(answer, 422, "invalid_corrections", "no image 8. Its positions are 0 to 7")[
        "errors"
    ]
    assert [(error["pointer"], error["code"]) for error in errors] == [
        ("/moved/8", "unknown_position"),
        ("/removed/1", "repeated_position"),
        ("/confirmed/0", "repeated_position"),
        ("/moved/1", "invalid_class_names"),
    ]
    assert_problem(retrain(service, first, removed=list(range(4))), 422, "too_few_classes")
    assert_problem(retrain(service, first, config={"epochs": 0}), 422, "invalid_config")
    assert_problem(retrain(service, first, nonsense=1), 422, "invalid_request")
    assert_problem(retrain(service, "job_none"), 404, "job_not_found")
    assert service.stored() == before


def test_a_retry_with_the_same_key_gets_the_same_job(trained: tuple[Service, str]) -> None:
    service, first = trained
    key = {"Idempotency-Key": "one"}
    made, again = (retrain(service, first, key, moved={"1": "badger"}) for _ in range(2))
    assert made.json()["id"] == again.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert_problem(retrain(service, first, key, confirmed=[1]), 422, "idempotency_key_reused")


def test_another_backbone_brings_its_recipe(trained: tuple[Service, str]) -> None:
    """The user's settings stay; the new recipe replaces the old one."""
    service, _ = trained
    first = service.accepted(**shots(("fox", "badger")), config={"backbone": "starter", "seed": 7})
    assert (first["config"]["epochs"], first["config"]["image_size"]) == (30, 160)
    service.settings.backbones.append("ViT-B-16/openai")
    clip = retrain(service, first["id"], config={"backbone": "ViT-B-16/openai"}).json()["config"]
    assert clip == resolve_config(backbone="ViT-B-16/openai", seed=7).model_dump()
    assert (clip["epochs"], clip["learning_rate"], clip["image_size"]) == (20, 5e-6, None)


def test_the_default_epochs_follow_the_number_of_images(trained: tuple[Service, str]) -> None:
    service, _ = trained
    many = service.accepted(**shots(("fox", "badger"), each=16), config={"backbone": "starter"})
    few = retrain(service, many["id"], removed=[0, 1]).json()
    own = retrain(service, few["id"], config={"epochs": 5}).json()
    again = retrain(service, own["id"]).json()
    assert [job["config"]["epochs"] for job in (many, few, own, again)] == [10, 30, 5, 5]
