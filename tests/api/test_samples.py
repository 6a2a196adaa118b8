"""GET /samples and the zip, which POST /adapt accepts as it is."""

import io
import zipfile
from collections import Counter

import pytest

from tests.api.service import Service


@pytest.mark.slow
def test_the_service_accepts_the_zip(fresh: Service) -> None:
    """Every image is usable, and the list has the trained and new classes."""
    body = fresh.client.get("/samples").json()
    assert body["object"] == "list"
    [sample] = body["data"]
    assert (sample["name"], sample["images"], sample["default"]) == ("parts", 120, True)
    assert sample["license"]
    response = fresh.client.get("/samples/parts.zip")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(response.content)) as file:
        counts = Counter(name.split("/")[0] for name in file.namelist())
        assert sample["credit"] in file.comment.decode()
    assert counts.total() == sample["images"]
    job = fresh.client.post("/adapt", files={"archive": ("sample.zip", response.content)})
    assert job.status_code == 202, job.text
    # A few images are out of focus on purpose. No image is a duplicate, and no name is ambiguous.
    assert {warning["code"] for warning in job.json()["warnings"]} <= {"blurred_images"}
    found = {c["name"]: (c["images"], c["test_images"]) for c in job.json()["classes"]}
    assert [name for name, (images, _) in found.items() if images] == sample["classes"]
    assert sum(images for images, _ in found.values()) == counts["train"]
    assert sum(tests for _, tests in found.values()) == counts["test"]
