"""POST /adapt accepted: the job, its images stored byte for byte, and warnings for anything unusual."""

import hashlib
from datetime import datetime, timedelta
from typing import Any

from core.store.db.tables import JobImage
from core.store.jobs import jobs
from tests.api import crafted
from tests.api.service import JOB_KEYS, Body, Service, shots
from tests.core.clip.tiny import make_tiny_backbone


def images_of(service: Service, job: Body) -> list[JobImage]:
    with service.database.read() as session:
        return jobs.images(session, job["id"])


def contents(service: Service, job: Body) -> dict[str, tuple[str, str, bytes]]:
    """Return split, class and stored bytes per file name."""
    found = {}
    for image in images_of(service, job):
        content = service.blobs.get(image.blob_key)
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (image.sha256, image.bytes)
        found[image.file_name] = (image.split, image.class_name, content)
    return found


def blobs_of(job_id: str, images: int) -> set[str]:
    return {f"jobs/{job_id}/{i:05d}" for i in range(images)}


def codes(job: Body) -> list[str]:
    return [warning["code"] for warning in job["warnings"]]


def test_the_whole_answer(either: Service) -> None:
    response = either.adapt(**shots(), name="  my foxes ", config={"epochs": 3})
    assert response.status_code == 202
    job = response.json()
    assert set(job) == JOB_KEYS
    assert response.headers["location"] == f"/jobs/{job['id']}"
    assert int(response.headers["retry-after"]) > 0
    assert response.headers["content-type"] == "application/json"
    assert job["id"].startswith("job_")
    created = datetime.fromisoformat(job.pop("created_at"))
    assert created.utcoffset() == timedelta(0)
    assert job.pop("request_id") == response.headers["x-request-id"]
    config = job.pop("config")
    assert config["epochs"] == 3
    assert config["backbone"] == either.settings.backbone
    assert job == {
        "id": job["id"],
        "object": "job",
        "name": "my foxes",
        "status": "queued",
        "cancel_requested": False,
        "started_at": None,
        "finished_at": None,
        "classes": [
            {"name": "red fox", "images": 4, "test_images": 0},
            {"name": "badger", "images": 4, "test_images": 0},
        ],
        "queue_position": 1,
        "attempts": 0,
        "progress": None,
        "model_id": None,
        "metrics": None,
        "promoted": None,
        "not_promoted": None,
        "warnings": [],
        "error": None,
    }
    assert either.client.get(response.headers["location"]).json() == response.json()
    assert list(either.temp.iterdir()) == []


def test_train_and_test(fresh: Service) -> None:
    files = {f"train/{name}": content for name, content in crafted.two_classes().items()}
    files |= {"test/red fox/t.jpg": crafted.jpeg(80), "test/otter/t.jpg": crafted.jpeg(81)}
    job = fresh.accepted(archive=crafted.zip_of(files))
    assert job["classes"] == [
        {"name": "red fox", "images": 4, "test_images": 1},
        {"name": "badger", "images": 4, "test_images": 0},
        {"name": "otter", "images": 0, "test_images": 1},
    ]
    stored = contents(fresh, job)
    assert stored["test/otter/t.jpg"] == ("test", "otter", files["test/otter/t.jpg"])
    assert stored["train/badger/0.jpg"][:2] == ("train", "badger")
    assert job["warnings"] == []


def test_images_with_test_images(fresh: Service) -> None:
    job = fresh.accepted(
        **shots(),
        test_images=[("t1.jpg", crafted.jpeg(90)), ("t2.jpg", crafted.jpeg(91))],
        test_labels=["badger", "otter"],
    )
    assert [(c["name"], c["test_images"]) for c in job["classes"]] == [
        ("red fox", 0),
        ("badger", 1),
        ("otter", 1),
    ]
    stored = contents(fresh, job)
    assert stored["t2.jpg"][:2] == ("test", "otter")


ODD_NAMES = [
    *(
        "🦊",
        "👩🏽‍🚒 at work",
        'a "quoted" one',
        "it's",
        "a/b",
        "../../etc/passwd",
        "C:\\fox",
        "con",
        "NaN",
        "null",
    ),
    *("{}", "%s", "<b>bold</b>", "'; DROP TABLE jobs; --", "עברית", "ﬁ", "e\u0301", "x" * 200, "[1]", "-"),
]


def test_odd_class_names(either: Service) -> None:
    before = {path for path in either.settings.data.parent.rglob("*") if "blobs" not in str(path)}
    job = either.accepted(**shots(ODD_NAMES, each=1))
    got = [count["name"] for count in job["classes"]]
    assert got == [name.replace("e\u0301", "é") for name in ODD_NAMES]  # NFC
    again = either.client.get(f"/jobs/{job['id']}").json()
    assert [count["name"] for count in again["classes"]] == got
    assert [image.class_name for image in images_of(either, job)] == got
    keys = {blob.key for blob in either.blobs.list("jobs")}
    assert keys == blobs_of(job["id"], len(ODD_NAMES))
    after = {path for path in either.settings.data.parent.rglob("*") if "blobs" not in str(path)}
    assert {path.name for path in after - before} <= {"tmp", "clipcite.db-wal", "clipcite.db-shm"}


def test_odd_file_names(fresh: Service) -> None:
    names = ["../../etc/passwd", "a\\b.jpg", "🦊.jpg", 'a"b.jpg', "x" * 2_000 + ".jpg", "C:\\x\\y.jpg"]
    images = [(name, crafted.jpeg(seed)) for seed, name in enumerate(names)]
    job = fresh.accepted(images=images, labels=["fox", "owl"] * 3)
    for image in images_of(fresh, job):
        assert len(image.file_name) <= 200
        assert "/" not in image.file_name
    assert {blob.key for blob in fresh.blobs.list("jobs")} == blobs_of(job["id"], len(names))


def test_names_that_differ_in_case_are_one_class(fresh: Service) -> None:
    names = ["Red Fox", "badger", "RED FOX", "red fox"]
    job = fresh.accepted(**shots(names, each=2))
    assert job["classes"] == [
        {"name": "Red Fox", "images": 6, "test_images": 0},
        {"name": "badger", "images": 2, "test_images": 0},
    ]
    merged = next(w for w in job["warnings"] if w["code"] == "merged_class_names")
    assert all(name in merged["detail"] for name in ("'Red Fox'", "'RED FOX'", "'red fox'"))


def test_bad_images_may_be_skipped(fresh: Service) -> None:
    good = shots()
    job = fresh.accepted(
        images=[("bad.jpg", b"text"), *good["images"], ("empty.jpg", b"")],
        labels=["badger", *good["labels"], "red fox"],
        on_bad_image="skip",
    )
    assert codes(job) == ["bad_image", "bad_image"]
    assert "bad.jpg was skipped" in job["warnings"][0]["detail"]
    assert "empty.jpg was skipped" in job["warnings"][1]["detail"]
    assert sum(count["images"] for count in job["classes"]) == 8
    assert set(contents(fresh, job)) == {name for name, _ in good["images"]}


def test_a_class_of_test_images_alone_may_lose_them_all(fresh: Service) -> None:
    files = {"train/cat/a.jpg": crafted.jpeg(), "train/dog/b.jpg": crafted.jpeg(2), "test/owl/c.jpg": b"x"}
    job = fresh.accepted(archive=crafted.zip_of(files), on_bad_image="skip")
    assert [count["name"] for count in job["classes"]] == ["cat", "dog"]


def test_the_duplicates_twice(fresh: Service) -> None:
    one, two = crafted.jpeg(1), crafted.jpeg(2)
    images = [("1.jpg", one), ("2.jpg", two), ("3.jpg", one), ("4.jpg", two)]
    job = fresh.accepted(images=images, labels=["fox", "owl", "owl", "owl"])
    assert codes(job) == ["few_images", "duplicates_two_classes", "duplicates"]


def test_unused_prompts(fresh: Service) -> None:
    config = {"prompts": {"RED FOX": ["a fox"], "otter": ["an otter"]}}
    job = fresh.accepted(**shots(), config=config)
    assert codes(job) == ["prompts_unused"]
    assert "otter" in job["warnings"][0]["detail"]


def test_the_echoed_config_can_be_sent_again(fresh: Service) -> None:
    config = {
        **{"epochs": 7, "alpha": 0.33, "learning_rate": 1e-5, "seed": 2**63 - 1, "precision": "bf16"},
        **{"templates": ["{} 🦊", "a {}"], "prompts": {"red fox": ["a fox", "ein Fuchs"]}},
    }
    job = fresh.accepted(**shots(), config=config)
    assert config.items() <= job["config"].items()
    again = fresh.accepted(**shots(), config=job["config"])
    assert again["config"] == job["config"]
    assert fresh.client.get(f"/jobs/{job['id']}").json()["config"] == job["config"]


def test_blank_fields_mean_nothing(fresh: Service) -> None:
    job = fresh.accepted(**shots(), config=" ", name=" ")
    assert job["name"] is None


def test_a_backbone_of_the_operators_list(make_service: Any, tmp_path: Any) -> None:
    listed = ["ViT-B-16/openai", make_tiny_backbone(tmp_path / "net")]
    service = make_service(backbones=listed)
    for name in (*listed, "starter", service.settings.backbone):
        job = service.accepted(**shots(), config={"backbone": name})
        assert job["config"]["backbone"] == name


def test_as_many_images_as_allowed(make_service: Any) -> None:
    service = make_service(max_images=8)
    assert len(contents(service, service.accepted(**shots()))) == 8
    archive = crafted.zip_of(crafted.two_classes())
    assert len(contents(service, service.accepted(archive=archive))) == 8
