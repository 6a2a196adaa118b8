"""POST /adapt accepted: the job, its images stored byte for byte, and warnings for anything unusual."""

import hashlib
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from sqlalchemy import select

from core.clip.prompts import BIDI_CONTROLS
from core.store.db.tables import JobImage
from core.store.jobs import jobs
from tests.api import crafted
from tests.api.service import JOB_KEYS, Body, Service, shots
from tests.core.clip.tiny import make_tiny_backbone


@pytest.fixture(scope="module")
def shared(new_service: Callable[..., AbstractContextManager[Service]]) -> Iterator[Service]:
    with new_service() as made:
        yield made


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
    return {jobs.preflight_of(job_id), *(f"jobs/{job_id}/{i:05d}" for i in range(images))}


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
        "warnings": [],
        "error": None,
    }
    assert either.client.get(response.headers["location"]).json() == response.json()
    assert list(either.temp.iterdir()) == []


def test_times_are_utc_with_a_zone(fresh: Service) -> None:
    created = fresh.accepted(**shots())["created_at"]
    assert created.endswith(("Z", "+00:00"))


def test_the_bytes_are_stored_as_they_came(either: Service) -> None:
    good = shots()
    job = either.accepted(**good)
    stored = contents(either, job)
    expected = {name: content for name, content in good["images"]}
    assert {name: content for name, (_, _, content) in stored.items()} == expected
    assert [p.class_name for p in images_of(either, job)] == good["labels"]


def test_an_archive_of_class_folders(fresh: Service) -> None:
    files = crafted.two_classes()
    job = fresh.accepted(archive=crafted.zip_of(files))
    assert contents(fresh, job) == {
        name: ("train", name.split("/")[0], content) for name, content in files.items()
    }
    assert job["classes"] == [{"name": n, "images": 4, "test_images": 0} for n in ("red fox", "badger")]
    assert job["warnings"] == []


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


def test_an_archive_as_people_pack_them(fresh: Service) -> None:
    files = {f"my images/{name}": content for name, content in crafted.two_classes().items()}
    files |= {"__MACOSX/my images/red fox/._0.jpg": b"x", "my images/.DS_Store": b"x"}
    files |= {"my images/readme.txt": b"hello"}
    job = fresh.accepted(archive=crafted.zip_of(files))
    assert sorted(codes(job)) == ["extra_root_folder", "hidden_files", "other_files"]
    assert len(contents(fresh, job)) == 8


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


def kinds_of_images() -> dict[str, bytes]:
    plain = Image.fromarray(crafted.pixels())
    palette = plain.quantize(16)
    deep = crafted.pixels().astype("uint16") * 257
    turned = Image.Exif()
    turned[0x112] = 6
    frames = [Image.fromarray(crafted.pixels(seed)) for seed in range(3)]
    return {
        "cmyk.jpg": crafted.encoded(plain.convert("CMYK"), "JPEG"),
        "16 bit.png": crafted.png16(deep, 2),
        "16 bit grey.png": crafted.png16(deep[:, :, 0], 0),
        "palette.png": crafted.encoded(palette, "PNG", transparency=3),
        "turned.jpg": crafted.encoded(plain, "JPEG", exif=turned),
        "animated.gif": crafted.encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "animated.webp": crafted.encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "grey alpha.png": crafted.encoded(plain.convert("LA"), "PNG"),
        "a.tiff": crafted.encoded(plain, "TIFF"),
        "a.bmp": crafted.encoded(plain, "BMP"),
        "png called.jpg": crafted.png(7),
        "no ending": crafted.jpeg(8),
    }


def test_every_kind_of_image(fresh: Service) -> None:
    """Images are stored as sent. Conversion happens at reading."""
    images = kinds_of_images()
    names = list(images)
    job = fresh.accepted(images=list(images.items()), labels=["fox", "badger"] * (len(names) // 2))
    assert {name: content for name, (_, _, content) in contents(fresh, job).items()} == images
    assert "bad_image" not in codes(job)


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


PRINTABLE = st.characters(
    exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="".join(BIDI_CONTROLS)
)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=250)


@settings(
    max_examples=60,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    st.lists(st.text(PRINTABLE, min_size=1, max_size=60), min_size=2, max_size=3)
    | st.lists(ANY_TEXT, min_size=2, max_size=3)
)
def test_any_text_is_a_class_name_or_refused(shared: Service, names: list[str]) -> None:
    """No class name causes a 5xx. Accepted names come back trimmed, in NFC, in the first spelling of each."""
    response = shared.adapt(**shots(names, each=1))
    if response.status_code == 422:
        assert response.json()["code"] in {"invalid_class_names", "too_few_classes"}
        assert shared.stored() == []
        return
    assert response.status_code == 202, response.text
    job = response.json()
    cleaned = [unicodedata.normalize("NFC", name.strip()) for name in names]
    assert all(count["name"] in cleaned for count in job["classes"])
    assert sum(count["images"] for count in job["classes"]) == len(names)
    assert shared.client.get(f"/jobs/{job['id']}").json() == job
    assert shared.client.delete(f"/jobs/{job['id']}").status_code == 204


@pytest.mark.parametrize(
    "file_name", ["../../etc/passwd", "a\\b.jpg", "🦊.jpg", 'a"b.jpg', "x" * 2_000 + ".jpg", "C:\\x\\y.jpg"]
)
def test_odd_file_names(either: Service, file_name: str) -> None:
    good = shots(each=1)
    job = either.accepted(images=[(file_name, crafted.jpeg(5)), good["images"][1]], labels=good["labels"])
    shown = images_of(either, job)[0].file_name
    assert len(shown) <= 200
    assert "/" not in shown


@settings(max_examples=60, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters='\0\r\n"'), max_size=300))
def test_any_file_name_is_taken_and_only_shown(shared: Service, name: str) -> None:
    """No file name reaches the store's keys or the answer's headers."""
    good = shots(each=1)
    job = shared.accepted(images=[(name or "x", crafted.jpeg(5)), good["images"][1]], labels=good["labels"])
    assert len(images_of(shared, job)[0].file_name) <= 200
    assert {blob.key for blob in shared.blobs.list("jobs")} == blobs_of(job["id"], 2)
    assert shared.client.delete(f"/jobs/{job['id']}").status_code == 204
    assert shared.stored() == []


@pytest.mark.parametrize("size", [(4, 4), (4, 100_000), (100_000, 4)])
def test_images_of_odd_sizes(fresh: Service, size: tuple[int, int]) -> None:
    odd = crafted.encoded(Image.new("RGB", size, "red"), "PNG")
    good = shots(each=1)
    fresh.accepted(images=[("odd.png", odd), good["images"][1]], labels=good["labels"])
    answer = fresh.client.post(
        "/classify", data={"class_names": ["a", "b"]}, files=[("images", ("odd.png", odd))]
    )
    assert answer.status_code == 200, answer.text
    assert "predictions" in answer.json()["results"][0]


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


def test_few_images(fresh: Service) -> None:
    job = fresh.accepted(**shots(["fox", "owl"], each=3))
    assert codes(job) == ["few_images"]
    assert "fewer than 4" in job["warnings"][0]["detail"]


def test_the_duplicates_twice(fresh: Service) -> None:
    one, two = crafted.jpeg(1), crafted.jpeg(2)
    images = [("1.jpg", one), ("2.jpg", two), ("3.jpg", one), ("4.jpg", two)]
    job = fresh.accepted(images=images, labels=["fox", "owl", "owl", "owl"])
    assert codes(job) == ["few_images", "duplicates_two_classes", "duplicates"]


def test_a_held_out_share_and_unused_prompts(fresh: Service) -> None:
    good = shots()
    config = {"holdout": 0.25, "prompts": {"RED FOX": ["a fox"], "otter": ["an otter"]}}
    job = fresh.accepted(**good, config=config)
    assert codes(job) == ["prompts_unused"]
    assert "otter" in job["warnings"][0]["detail"]
    job = fresh.accepted(
        **good, config={"holdout": 0.25}, test_images=[("t.jpg", crafted.jpeg(70))], test_labels=["badger"]
    )
    assert codes(job) == ["holdout_unused"]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"epochs": 7, "alpha": 0.33, "learning_rate": 1e-5, "seed": 2**63 - 1, "holdout": 0.5},
        {
            "templates": ["{} 🦊", "a {{}}"],
            "prompts": {"red fox": ["a fox", "ein Fuchs"]},
            "precision": "bf16",
        },
        {"image_size": 64, "crop_scale": 1, "weight_decay": 0, "scl_weight": 0, "vld_weight": 0},
        {"epochs": None, "image_size": None},
    ],
)
def test_the_echoed_config_can_be_sent_again(fresh: Service, config: Body) -> None:
    config = {k: v if k != "templates" else [t.replace("{{}}", "{}") for t in v] for k, v in config.items()}
    job = fresh.accepted(**shots(), config=config)
    assert {k: v for k, v in config.items() if v is not None}.items() <= job["config"].items()
    again = fresh.accepted(**shots(), config=job["config"])
    assert again["config"] == job["config"]
    assert fresh.client.get(f"/jobs/{job['id']}").json()["config"] == job["config"]


def test_the_starters_recipe_is_echoed(fresh: Service) -> None:
    job = fresh.accepted(**shots(), config={"backbone": "starter"})
    assert (job["config"]["epochs"], job["config"]["image_size"]) == (10, 160)
    assert fresh.accepted(**shots(), config=job["config"])["config"] == job["config"]


def test_blank_fields_mean_nothing(fresh: Service) -> None:
    job = fresh.accepted(**shots(), config=" ", name=" ")
    assert job["name"] is None


def test_a_backbone_of_the_operators_list(make_service: Any, tmp_path: Any) -> None:
    make_tiny_backbone(tmp_path / "ours" / "net")
    service = make_service(backbones=["ViT-B-16/openai"], backbone_folder=tmp_path / "ours")
    for name in ("ViT-B-16/openai", f"local-dir:{tmp_path}/ours/net", "starter", service.settings.backbone):
        job = service.accepted(**shots(), config={"backbone": name})
        assert job["config"]["backbone"] == name


def test_as_many_images_as_allowed(make_service: Any) -> None:
    service = make_service(max_images=8)
    assert len(contents(service, service.accepted(**shots()))) == 8
    archive = crafted.zip_of(crafted.two_classes())
    assert len(contents(service, service.accepted(archive=archive))) == 8


def test_an_image_is_not_read_by_another_job(fresh: Service) -> None:
    one, two = fresh.accepted(**shots()), fresh.accepted(**shots())
    keys = [{image.blob_key for image in images_of(fresh, job)} for job in (one, two)]
    assert not keys[0] & keys[1]
    with fresh.database.read() as session:
        assert len(set(session.scalars(select(JobImage.blob_key)))) == 16
