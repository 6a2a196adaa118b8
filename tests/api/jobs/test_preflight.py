"""Findings of POST /adapt on images and names before training, with `dry_run` and with a job."""

from datetime import timedelta
from typing import Any

import pytest
from PIL import Image, ImageFilter
from sqlalchemy import update

from core.store.db.session import database_now
from core.store.db.tables import Job
from tests.api import crafted
from tests.api.conftest import MakeService
from tests.api.service import Body, Service, form
from tests.core.clip.drawn import drawn

KEYS = {
    *("object", "acceptable", "config", "classes", "images", "good", "findings", "warnings", "estimate"),
}


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    return crafted.encoded(image, "JPEG", quality=quality)


def upload(**faults: bytes) -> dict[str, Any]:
    """Build two classes of four good images and a second class with faults."""
    files = [(f"{i}.jpg", jpeg(drawn(i))) for i in range(8)]
    files += [(f"{name}.jpg", content) for name, content in faults.items()]
    return {"images": files, "labels": ["red fox"] * 4 + ["badger"] * (4 + len(faults))}


def dry_run(service: Service, **fields: Any) -> Body:
    """Post a dry run and assert that nothing is stored."""
    response = service.client.post("/adapt?dry_run=true", **form(**fields))
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert not {"location", "retry-after"} & set(response.headers)
    assert service.stored() == []
    body: Body = response.json()
    assert set(body) == KEYS
    return body


def found(body: Body) -> list[tuple[str, str]]:
    return [(finding["file"], finding["code"]) for finding in body["findings"]]


def test_good_images(unchanged: Service) -> None:
    body = dry_run(unchanged, **upload())
    assert (body["object"], body["acceptable"], body["images"], body["good"]) == ("preflight", True, 8, 8)
    assert (body["findings"], body["warnings"]) == ([], [])
    assert body["classes"] == [
        {"name": "red fox", "images": 4, "test_images": 0},
        {"name": "badger", "images": 4, "test_images": 0},
    ]
    assert body["config"]["backbone"] == unchanged.settings.backbone
    assert body["estimate"]["seconds"] is None
    assert body["estimate"]["basis"]


def test_faults_are_named_one_by_one(unchanged: Service) -> None:
    mirrored = drawn(1).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    body = dry_run(
        unchanged,
        **upload(
            again=jpeg(drawn(2), 60),
            turned=jpeg(mirrored),
            soft=jpeg(drawn(90).filter(ImageFilter.GaussianBlur(5))),
            same=jpeg(drawn(7)),
            white=jpeg(Image.new("RGB", (90, 90), "white")),
        ),
    )
    assert found(body) == [
        ("again.jpg", "duplicate_in_two_classes"),
        ("turned.jpg", "duplicate_in_two_classes"),
        ("soft.jpg", "blurred"),
        ("same.jpg", "duplicate"),
        ("white.jpg", "blank"),
    ]
    assert [finding["other"] for finding in body["findings"]] == ["2.jpg", "1.jpg", None, "7.jpg", None]
    assert (body["images"], body["good"]) == (13, 8)
    assert {w["code"] for w in body["warnings"]} == {
        *("duplicates_two_classes", "blurred_images", "duplicates", "blank_images"),
    }


@pytest.mark.parametrize("on_bad_image", ["fail", "skip"])
def test_an_image_that_cannot_be_read(unchanged: Service, on_bad_image: str) -> None:
    """A dry run names an unreadable image among the findings; a real job is refused, or skips the image."""
    given = upload(cut=jpeg(drawn(60))[:500], text=b"no image at all")
    body = dry_run(unchanged, **given, on_bad_image=on_bad_image)
    assert found(body) == [("cut.jpg", "truncated_image"), ("text.jpg", "not_an_image")]
    assert body["acceptable"] == (on_bad_image == "skip")
    assert (body["images"], body["good"]) == (10, 8)
    assert [w["code"] for w in body["warnings"]] == (["bad_image"] * 2 if on_bad_image == "skip" else [])


def test_a_job_has_the_warnings_of_its_dry_run(make_service: MakeService) -> None:
    service = make_service()
    given = upload(again=jpeg(drawn(2), 60))
    before = dry_run(service, **given)
    job = service.accepted(**given)
    assert job["warnings"] == before["warnings"] != []
    assert service.client.delete(f"/jobs/{job['id']}").status_code == 204
    assert service.stored() == []


def test_clip_has_an_estimate_before_the_first_job(make_service: MakeService) -> None:
    service = make_service(backbones=["ViT-B-16/openai"])
    estimate = dry_run(service, **upload(), config={"backbone": "ViT-B-16/openai"})["estimate"]
    assert estimate["low_seconds"] < estimate["seconds"] < estimate["high_seconds"]
    assert 5e9 < estimate["memory_bytes"] < 15e9


def test_the_estimate_comes_from_past_jobs(either: Service) -> None:
    job = either.accepted(**upload())
    with either.database.write() as session:
        at = database_now(session)
        ended = {
            "status": "succeeded",
            "attempts": 1,
            "started_at": at,
            "finished_at": at + timedelta(seconds=42),
        }
        session.execute(update(Job).where(Job.id == job["id"]).values(**ended))
    response = either.client.post("/adapt?dry_run=1", **form(**upload()))
    expected = response.json()["estimate"]
    assert expected["seconds"] == pytest.approx(42, abs=0.1)
    assert "1 job" in expected["basis"]
    other_size = form(**upload(), config={"image_size": 64})
    assert either.client.post("/adapt?dry_run=1", **other_size).json()["estimate"]["seconds"] is None
