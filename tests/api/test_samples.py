"""GET /samples and the zips, which POST /adapt accepts as they are."""

import io
import zipfile
from collections import Counter

import pytest

from core.samples import catalog
from core.samples.sample import Sample
from tests.api.service import Service, assert_problem


def test_the_list(fresh: Service) -> None:
    response = fresh.client.get("/samples")
    assert response.status_code == 200
    body = response.json()
    assert body["object"] == "list"
    assert [sample["name"] for sample in body["data"]] == [sample.name for sample in catalog.available()]
    assert [sample["default"] for sample in body["data"]] == [True] + [False] * (len(body["data"]) - 1)
    parts = next(sample for sample in body["data"] if sample["name"] == "parts")
    assert parts["classes"] == ["washer", "nut", "gear", "bracket", "spring"]
    assert parts["images"] == 144
    assert parts["license"]
    assert parts["credit"]


@pytest.mark.slow
def test_the_service_accepts_each_zip(fresh: Service) -> None:
    """Every image is usable, and trained and new classes are those of the list."""
    for sample in fresh.client.get("/samples").json()["data"]:
        response = fresh.client.get(f"/samples/{sample['name']}.zip")
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/zip"
        with zipfile.ZipFile(io.BytesIO(response.content)) as file:
            counts = Counter(name.split("/")[0] for name in file.namelist())
            assert sample["credit"] in file.comment.decode()
        assert counts.total() == sample["images"]
        job = fresh.client.post("/adapt", files={"archive": ("sample.zip", response.content)})
        assert job.status_code == 202, job.text
        if sample["default"]:
            # A few images are out of focus on purpose. No image is a duplicate, and no name is ambiguous.
            assert {warning["code"] for warning in job.json()["warnings"]} <= {"blurred_images"}
        found = {c["name"]: (c["images"], c["test_images"]) for c in job.json()["classes"]}
        assert [name for name, (images, _) in found.items() if images] == sample["classes"]
        assert sum(images for images, _ in found.values()) == counts["train"]
        assert sum(tests for _, tests in found.values()) == counts["test"]


def test_an_unknown_sample(fresh: Service) -> None:
    problem = fresh.client.get("/samples/cats.zip")
    assert_problem(problem, 404, "sample_not_found", r"No sample named 'cats'\. Available: .*parts")


def test_a_sample_whose_package_is_missing(fresh: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Sample:
        return Sample(name, "", {}, {}, 1, "png", "", "", lambda *_: b"", lambda: "Install it.")

    monkeypatch.setattr(catalog, "SAMPLES", (absent("photos"), *catalog.SAMPLES))
    assert "photos" not in [sample["name"] for sample in fresh.client.get("/samples").json()["data"]]
    problem = fresh.client.get("/samples/photos.zip")
    assert_problem(problem, 404, "sample_not_found", r"photos is not available here\. Install it\.")
