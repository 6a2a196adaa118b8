"""POST /adapt refused: the right problem, and no stored row, blob or file."""

import errno
import json
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from core import scratch
from core.store.storage import atomic_write
from tests.api import crafted
from tests.api.service import Service, assert_problem, shots

GOOD = crafted.jpeg()
JPEG_CUT = GOOD[: len(GOOD) // 2]
Problem = Callable[..., dict[str, Any]]
SETTINGS = {"max_images": 10, "max_request_bytes": 2_000_000, "max_image_bytes": 500_000}


@pytest.fixture
def refused(shared: Service) -> Iterator[Problem]:
    """Return a function that posts to /adapt, checks the problem and asserts that nothing is stored."""

    def post(status: int, code: str, says: str = "", *, errors: Any = None, **fields: Any) -> dict[str, Any]:
        return assert_problem(shared.adapt(**fields), status, code, says, errors=errors)

    yield post
    assert shared.left_behind() == []


def one_bad(content: bytes, name: str = "bad.jpg", **more: Any) -> dict[str, Any]:
    """Return good images of two classes, and one file that is not an image."""
    good = shots(each=2)
    return {"images": [*good["images"], (name, content)], "labels": [*good["labels"], "badger"], **more}


# --- images ---


@pytest.mark.parametrize("way", ["images", "archive"])
def test_every_bad_image_is_named(refused: Problem, way: str) -> None:
    bad = {"cat/1.jpg": b"", "cat/2.jpg": crafted.SVG, "dog/1.png": JPEG_CUT, "dog/2.jpg": bytes(500_001)}
    good = {"cat/good.jpg": GOOD, "dog/good.jpg": crafted.jpeg(1)}
    codes = ["empty_file", "not_an_image", "truncated_image", "image_too_large"]
    files = good | bad
    if way == "archive":
        fields: dict[str, Any] = {"archive": crafted.zip_of(files)}
        names = list(bad)
    else:
        fields = {
            "images": [(name.replace("/", "-"), content) for name, content in files.items()],
            "labels": [name.split("/")[0] for name in files],
        }
        names = [name.replace("/", "-") for name in bad]
    expected = [{"file": name, "code": code} for name, code in zip(names, codes, strict=True)]
    refused(422, "bad_images", "4 images can't be used", errors=expected, **fields)


# --- classes and labels ---


GOOD_SHOTS, TESTS = shots(each=2), {"test_images": [("t.jpg", GOOD)], "test_labels": ["fox"]}
REFUSED: dict[str, tuple[int, str, str, list[dict[str, str]] | None, dict[str, Any]]] = {
    "a class without images": (
        *(422, "class_without_images", "'badger'.*remove the class"),
        [{"file": "b.jpg", "code": "empty_file"}],
        {"images": [("a.jpg", GOOD), ("b.jpg", b"")], "labels": ["fox", "badger"], "on_bad_image": "skip"},
    ),
    "one class": (422, "too_few_classes", "1 class.*'fox'.*at least 2", None, shots(["fox"])),
    "one class in two spellings": (
        *(422, "too_few_classes", "at least 2", None),
        {"archive": crafted.zip_of({"fox/a.jpg": GOOD, "FOX/b.jpg": GOOD})},
    ),
    "only test images": (422, "too_few_classes", "at least 2", None, TESTS),
    "class names": (
        *(422, "invalid_class_names", "3 class names"),
        [{"pointer": "/labels/0"}, {"pointer": "/labels/2"}, {"pointer": "/test_labels/0"}],
        {"images": [("a.jpg", GOOD)] * 3, "labels": ["", "fox", "x" * 201], **TESTS, "test_labels": ["a\0b"]},
    ),
    "a class name in an archive": (
        *(422, "invalid_class_names", "201 characters", None),
        {"archive": crafted.zip_of({"x" * 201 + "/a.jpg": GOOD, "fox/a.jpg": GOOD})},
    ),
    "neither": (422, "archive_or_images", "Send either `archive`.*or `images`", None, {"name": "mine"}),
    "both": (422, "archive_or_images", "Send either", None, {**GOOD_SHOTS, "archive": b"x"}),
    "unknown fields": (
        *(422, "invalid_request", "", [{"pointer": "/one"}, {"pointer": "/two"}]),
        {**GOOD_SHOTS, "one": "1", "two": "2"},
    ),
    "too many images": (
        *(413, "too_many_images", r"There are 11 images\. Send fewer: the maximum is 10", None),
        shots(["a"] * 11, each=1),
    ),
    "too many with the test images": (
        *(413, "too_many_images", "maximum is 10", None),
        {**shots(each=4), "test_images": [("t.jpg", GOOD)] * 3, "test_labels": ["fox"] * 3},
    ),
    "a huge text": (
        *(413, "text_too_large", "A field of the form exceeds 1,000,000", None),
        {**GOOD_SHOTS, "config": json.dumps({"prompts": {"a": ["x" * 1_100_000]}})},
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(refused: Problem, what: str) -> None:
    status, code, says, errors, fields = REFUSED[what]
    refused(status, code, says, errors=errors, **fields)


@pytest.mark.parametrize("prefix", ["", "test_"])
def test_labels_and_images_of_different_number(refused: Problem, prefix: str) -> None:
    good = shots(each=2)
    fields = {**good, "test_images": good["images"], "test_labels": good["labels"]}
    for labels in (fields[f"{prefix}labels"][:-1], [*fields[f"{prefix}labels"], "one more"], []):
        refused(
            422,
            "label_count",
            "one label per image",
            errors=[{"pointer": f"/{prefix}labels", "code": "label_count"}],
            **{**fields, f"{prefix}labels": labels},
        )


# --- archives ---


@pytest.mark.parametrize(
    ("archive", "status", "code", "says"),
    [
        (crafted.zip_of({"../cat/a.jpg": GOOD, "dog/a.jpg": GOOD}), 422, "unsafe_path", "pack it again"),
        (crafted.zip_bomb(50_000_000), 413, "archive_too_large", r"2,000,000 bytes\. Send fewer"),
        (crafted.tar_gz_of(crafted.two_classes()), 422, "not_an_archive", "Unpack the file.*zip -r"),
        (crafted.zip_of({f"cat/{i}.jpg": GOOD for i in range(11)}), 413, "too_many_images", "Send fewer"),
    ],
    ids=["..", "bomb", "tar.gz", "too many"],
)
def test_bad_archives(refused: Problem, archive: bytes, status: int, code: str, says: str) -> None:
    started = time.process_time()
    refused(status, code, says, archive=archive)
    assert time.process_time() - started < 2


# --- neither, both, unknown ---


def test_two_archives(shared: Service) -> None:
    parts = [
        ("archive", ("a.zip", crafted.zip_of({f"{n}/a.jpg": GOOD for n in names}))) for names in ("ab", "cd")
    ]
    response = shared.client.post("/adapt", files=parts)
    if response.status_code == 202:
        shared.client.delete(f"/jobs/{response.json()['id']}")
    assert_problem(response, 422, "invalid_request", "Send it once")


def test_a_job_whose_body_is_not_a_form(shared: Service) -> None:
    for options in ({"json": {"images": []}}, {"content": b"x"}, {"data": {"name": "a"}}, {}):
        assert_problem(shared.client.post("/adapt", **options), 422, "archive_or_images")
    assert_problem(shared.client.post("/adapt", data={"labels": "a"}), 422, "label_count")
    assert shared.stored() == []


def test_other_wrong_fields(refused: Problem) -> None:
    refused(
        422,
        "invalid_request",
        "on_bad_image",
        errors=[{"pointer": "/on_bad_image"}],
        **shots(),
        on_bad_image="no",
    )
    for name in ("x" * 201, "a\0b", "two\nlines"):
        refused(422, "invalid_name", "200 printable", errors=[{"pointer": "/name"}], **shots(), name=name)
    for name in ("shoes@3", "a/b", "stock", "mdl_x"):
        refused(422, "invalid_name", "name must not", errors=[{"pointer": "/name"}], **shots(), name=name)


# --- config ---


@pytest.mark.parametrize("text", ["{", "[" * 50_000, '{"epochs": 1}}', "[]", "1", "null"])
def test_config_that_is_not_an_object(refused: Problem, text: str) -> None:
    refused(422, "invalid_request", "config", errors=[{"pointer": "/config"}], **shots(), config=text)


@pytest.mark.parametrize(
    ("config", "pointers"),
    [
        ({"one": 1, "two": 2}, ["one", "two"]),
        ({"epochs": True}, ["epochs"]),
        ({"templates": [1]}, ["templates/0"]),
        ({"prompts": {"fox": "a fox"}}, ["prompts/fox"]),
        ({"backbone": "x" * 501}, ["backbone"]),
        ({"epochs": "a", "alpha": "b"}, ["epochs", "alpha"]),
    ],
    ids=str,
)
def test_config_of_a_wrong_shape(refused: Problem, config: object, pointers: list[str]) -> None:
    expected = [{"pointer": f"/config/{pointer}"} for pointer in pointers]
    problem = refused(
        422, "invalid_request", f"config/{pointers[0]}", errors=expected, **shots(), config=config
    )
    if len(pointers) > 1:
        assert f"There are {len(pointers)} such errors" in problem["detail"]


@pytest.mark.parametrize(
    "config",
    [{"templates": ["\ud800 {}"]}, {"prompts": {"fox": ["\udfff"]}}, {"prompts": {"\ud800": ["a fox"]}}],
)
def test_lone_surrogates_in_the_config(shared: Service, config: object) -> None:
    response = shared.adapt(**shots(), config=config)
    listed = shared.client.get("/jobs").status_code
    left = shared.left_behind()
    assert_problem(response, 422, "invalid_config")
    assert (listed, left) == (200, [])


def test_config_with_a_number_out_of_range(refused: Problem) -> None:
    for number in (f"1{'0' * 400}", f"1{'0' * 5_000}", "-1e400", "1.5e0"):
        response = shots()
        refused(
            422,
            "invalid_request" if "e" not in number else "invalid_config",
            **response,
            config=f'{{"alpha": {number}}}',
        )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nonsense", "There is no backbone 'nonsense'. Use 'starter'"),
        ("hf-hub:someone/something", "is not installed here. Name another .backbone.*CLIPCITE_BACKBONES"),
        ("local-dir:/etc", "is a folder on the machine of the service.*CLIPCITE_BACKBONES"),
        ("local-dir:a\0b", "is a folder on the machine of the service.*CLIPCITE_BACKBONES"),
    ],
)
def test_a_backbone_that_is_not_on_the_list(refused: Problem, name: str, words: str) -> None:
    refused(
        422,
        "unknown_backbone",
        words,
        **shots(),
        config={"backbone": name},
    )


# --- limits on size and number ---


def test_a_request_that_is_too_large(refused: Problem) -> None:
    refused(413, "request_too_large", r"2,000,000 bytes\. Send fewer", **one_bad(bytes(2_000_000)))


# --- the storage fails ---


def test_a_full_disk(fresh: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the third image does not fit, the first two are removed."""
    write = atomic_write._write
    count = 0

    def full(path: Path, data: bytes) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(atomic_write, "_write", full)
        assert_problem(fresh.adapt(**shots()), 507, "storage_full", "Free some space")
        assert fresh.stored() == []
    fresh.accepted(**shots())


@pytest.mark.parametrize("where", ["tempfile.SpooledTemporaryFile.rollover", "api.archives.read._copy"])
def test_a_full_disk_while_the_upload_is_read(
    fresh: Service, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A large image is spooled, or an archive is unpacked, to a disk that has become read-only."""

    def full(*given: object) -> None:
        raise OSError(errno.EROFS if "archives" in where else errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(where, full)
    archive = {"archive": crafted.zip_of(crafted.two_classes())}
    response = fresh.adapt(**(archive if "archives" in where else one_bad(large_image())))
    assert fresh.stored() == []
    assert_problem(response, 507, "storage_full", "Free some space")


def test_a_full_disk_before_the_upload_is_read(fresh: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The declared length of the body does not fit."""
    with monkeypatch.context() as patch:
        patch.setattr(scratch, "MIN_FREE_BYTES", 2**60)
        response = fresh.adapt(**shots())
        assert_problem(response, 507, "storage_full", "Free some space")
        assert response.headers["Connection"] == "close"
        assert fresh.stored() == []
    fresh.accepted(**shots())


def test_more_images_than_files_may_be_open(fresh: Service) -> None:
    images = [(f"{i}.bmp", large_image(i)) for i in range(80)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files() + 60, hard))
    try:
        response = fresh.adapt(images=images, labels=["a", "b"] * 40)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert_problem(response, 503, "too_many_open_files", "Send fewer images")
    assert fresh.stored() == []
    assert fresh.adapt(images=images, labels=["a", "b"] * 40).status_code == 202


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def large_image(seed: int = 0) -> bytes:
    """Return a good image that exceeds the in-memory limit of a spooled file."""
    return crafted.encoded(Image.fromarray(crafted.pixels(seed, 200, 200)), "BMP")


@pytest.mark.parametrize("bad", [b"", large_image()[:-60_000]], ids=["empty", "cut"])
def test_no_file_of_a_refused_upload_stays(refused: Problem, bad: bytes) -> None:
    images = [("a.bmp", large_image(1)), ("b.bmp", large_image(2)), ("c.bmp", bad)]
    refused(422, "bad_images", images=images, labels=["a", "b", "b"])  # connections and decoders stay open
    before = open_files()
    refused(422, "bad_images", images=images, labels=["a", "b", "b"])
    assert open_files() <= before + 1
