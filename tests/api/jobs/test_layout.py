"""POST /adapt/layout: split and class of files by their folders, without the files."""

from typing import Any

import pytest

from tests.api import crafted
from tests.api.conftest import MakeService
from tests.api.service import Body, Service, assert_problem, form

FILES = {
    "data/train/cat/a.jpg": ("train", "cat", None),
    "data/train/cat/by phone/b.JPG": ("train", "cat", None),
    "data/Test/cat/c.heic": ("test", "cat", None),
    "data/dev/cat/d.jpg": (None, None, "validation_ignored"),
    "data/cover.jpg": (None, None, "images_without_class"),
    "data/train/cat/.DS_Store": (None, None, "hidden_files"),
    "__MACOSX/cat/a.jpg": (None, None, "hidden_files"),
    "notes.txt": (None, None, "other_files"),
    "data/train/<b>owl/x.png": ("train", "<b>owl", None),
    "data/train/ e\u0301clair /1.jpg": ("train", "éclair", None),
    "./data//train/cat/e.jpg": ("train", "cat", None),
    "": (None, None, "other_files"),
}


def layout(service: Service, paths: list[str]) -> Body:
    response = service.client.post("/adapt/layout", json={"paths": paths})
    assert response.status_code == 200, response.text
    body: Body = response.json()
    assert body["object"] == "layout"
    return body


def test_each_file_has_a_place_or_a_reason(unchanged: Service) -> None:
    body = layout(unchanged, list(FILES))
    places = [body["folders"][position] for position in body["files"]]
    found = [(p["split"], p["class_name"], p["left_out"] and p["left_out"]["code"]) for p in places]
    assert dict(zip(FILES, found, strict=True)) == FILES
    assert sum(folder["files"] for folder in body["folders"]) == len(FILES)
    assert [p["folder"] for p in places[:3]] == ["data/train/cat", "data/train/cat/by phone", "data/Test/cat"]
    assert all(p["left_out"] is None or p["left_out"]["detail"].endswith(".") for p in places)


def test_nothing_is_placed_without_paths(unchanged: Service) -> None:
    assert layout(unchanged, []) == {"object": "layout", "folders": [], "files": []}


@pytest.mark.parametrize(
    ("paths", "code"),
    [
        (["train/cat/a.jpg", "blue/b.jpg"], "unclear_layout"),
        (["../cat/a.jpg", "dog/b.jpg"], "unsafe_path"),
        (["/cat/a.jpg", "dog/b.jpg"], "unsafe_path"),
        (["C:/cat/a.jpg", "dog/b.jpg"], "unsafe_path"),
        (["cat\\a.jpg", "dog/b.jpg"], "unsafe_path"),
        (["x/" * 40 + "a.jpg", "dog/b.jpg"], "unsafe_path"),
        (["e" + "\u0301" * 40 + "/a.jpg", "dog/b.jpg"], "unsafe_path"),
        (["\u200b/a.jpg", "dog/b.jpg"], "invalid_class_names"),
        (["n" * 201 + "/a.jpg", "dog/b.jpg"], "invalid_class_names"),
        (["ca\u202et/a.jpg", "dog/b.jpg"], "invalid_class_names"),
    ],
)
def test_what_an_archive_may_not_have_is_refused_alike(
    unchanged: Service, paths: list[str], code: str
) -> None:
    here = unchanged.client.post("/adapt/layout", json={"paths": paths})
    said = assert_problem(here, 422, code)["detail"]
    archive = crafted.zip_of(dict.fromkeys(paths, crafted.jpeg()))
    there = unchanged.client.post("/adapt?dry_run=true", **form(archive=archive))
    assert assert_problem(there, 422, code)["detail"] == said


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"paths": [f"{i}.txt" for i in range(20_001)]}, 413, "too_many_files"),
        ({"paths": [f"cat/{i}.jpg" for i in range(5_001)]}, 413, "too_many_images"),
        ({"paths": ["," * 200_000]}, 413, "too_many_values"),
        ({"paths": [7]}, 422, "invalid_request"),
        ({"paths": "cat/a.jpg"}, 422, "invalid_request"),
        ({"paths": [], "files": []}, 422, "invalid_request"),
        ({}, 422, "invalid_request"),
    ],
)
def test_limits_and_shape(unchanged: Service, body: dict[str, Any], status: int, code: str) -> None:
    assert_problem(unchanged.client.post("/adapt/layout", json=body), status, code)


def test_many_files_in_one_request(unchanged: Service) -> None:
    images = [f"data/train/class {i % 200}/a photo with a long name {i}.jpg" for i in range(5_000)]
    junk = [f"data/train/class {i % 200}/notes {i}.txt" for i in range(15_000)]
    body = layout(unchanged, images + junk)
    assert sum(folder["split"] == "train" for folder in body["folders"]) == 200
    assert len(body["files"]) == 20_000


def test_deep_paths_take_their_memory(make_service: MakeService) -> None:
    service = make_service(memory_bytes=100_000_000)
    paths = {"paths": ["x/" * 31 + f"{i}.txt" for i in range(20_000)]}
    with service.app.state.memory.hold("default", 20_000_000):
        assert_problem(service.client.post("/adapt/layout", json=paths), 503, "busy")
    assert service.client.post("/adapt/layout", json=paths).status_code == 200
