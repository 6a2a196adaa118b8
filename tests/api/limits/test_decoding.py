"""Costly images on every route: each is refused, and an owner is charged for its own."""

import pytest

from api.jobs.report.routes import thumbnails
from core.clip.data.header import ImageLimits
from core.clip.data.loader import read_images
from core.clip.errors import BadImage
from tests.api import crafted
from tests.api.service import Service

SCANS = crafted.jpeg_of_scans(101, 64)
NAMES = {"class_names": ["red", "green"]}


def test_a_costly_image_is_refused_on_every_way_in(fresh: Service) -> None:
    files = [("images", ("a.jpg", SCANS)), ("images", ("b.jpg", crafted.jpeg()))]
    for sent, problems in ((files, ["image_too_costly", None]), (files[:1], None)):
        response = fresh.client.post("/classify", data=NAMES, files=sent)
        if problems is None:
            assert response.status_code == 422
            assert response.json()["errors"][0]["code"] == "image_too_costly"
        else:
            results = response.json()["results"]
            assert [r["error"] and r["error"]["code"] for r in results] == problems
    response = fresh.adapt(images=[("a.jpg", SCANS), ("b.jpg", crafted.jpeg())], labels=["a", "b"])
    assert response.json()["errors"][0]["code"] == "image_too_costly"
    assert "baseline JPEG" in response.json()["errors"][0]["detail"]

    fresh.blobs.put("a", SCANS)
    fresh.blobs.put("b", crafted.jpeg())
    assert list(thumbnails(fresh.app.state.serving, {0: "a", 1: "b", 2: "gone"}, "me")) == [1]
    with pytest.raises(BadImage, match="scans"):
        read_images([SCANS], ImageLimits(), 64)
