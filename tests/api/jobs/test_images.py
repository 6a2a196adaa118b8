"""The images of a job: a list with labels, and thumbnails."""

import hashlib
from io import BytesIO

from PIL import Image

from tests.api import crafted
from tests.api.service import Service, assert_problem, shots


def test_the_images_are_listed_in_the_order_of_the_upload(fresh: Service) -> None:
    test = {"test_images": [("held out.jpg", crafted.jpeg(900))], "test_labels": ["badger"]}
    job = fresh.accepted(**shots(each=2), **test)["id"]
    images = fresh.client.get(f"/jobs/{job}/images").json()["data"]
    assert [image["position"] for image in images] == list(range(5))
    assert [image["class_name"] for image in images] == ["red fox", "red fox", "badger", "badger", "badger"]
    assert images[-1] == {
        "position": 4,
        "split": "test",
        "class_name": "badger",
        "file_name": "held out.jpg",
        "sha256": hashlib.sha256(crafted.jpeg(900)).hexdigest(),
        "bytes": len(crafted.jpeg(900)),
    }


def test_a_thumbnail_is_an_upright_jpeg_of_the_requested_size(fresh: Service) -> None:
    tall = Image.new("RGB", (300, 900), (10, 200, 30))
    file = BytesIO()
    exif = tall.getexif()
    exif[274] = 6  # Rotate by 90 degrees.
    tall.save(file, "JPEG", exif=exif)
    upload = shots()
    upload["images"][0] = ("tall.jpg", file.getvalue())
    job = fresh.accepted(**upload)["id"]
    answer = fresh.client.get(f"/jobs/{job}/images/0", params={"side": 200})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-content-type-options"] == "nosniff"
    with Image.open(BytesIO(answer.content)) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("JPEG", (200, 67))
        assert not thumbnail.getexif()


def test_images_that_do_not_exist(fresh: Service) -> None:
    job = fresh.accepted(**shots())["id"]
    assert_problem(fresh.client.get(f"/jobs/{job}/images/8"), 404, "image_not_found", "lists its images")
    assert_problem(fresh.client.get("/jobs/job_none/images/0"), 404, "job_not_found")
    assert_problem(fresh.client.get("/jobs/job_none/images"), 404, "job_not_found")
    assert_problem(fresh.client.get(f"/jobs/{job}/images/0?side=4096"), 422, "invalid_request")
    fresh.blobs.delete(f"jobs/{job}/00000.image")
    assert_problem(fresh.client.get(f"/jobs/{job}/images/0"), 503, "blob_missing")
