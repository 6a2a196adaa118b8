import tempfile
import tracemalloc
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.archives.errors import ArchiveError
from api.http.file_names import display_name
from api.jobs.form import JobUpload
from api.jobs.upload import InvalidUpload, ValidatedUpload, validate_upload
from core.clip.data.decoders import Decoders
from core.clip.errors import InvalidClassNames
from core.clip.prompts import BIDI_CONTROLS, clean_class_name
from core.settings import Settings
from tests.api import crafted

LABELS = ["cat"] * 4 + ["dog"] * 4


def jpegs(count: int) -> list[crafted.Upload]:
    return [crafted.upload(crafted.jpeg(i), f"{i}.jpg") for i in range(count)]


def collected(folder: Path, limits: dict[str, int] | None = None, **given: Any) -> ValidatedUpload:
    decoders = Decoders(2)
    try:
        return validate_upload(
            folder=folder,
            settings=Settings(**(limits or {})),  # type: ignore[arg-type]
            decoders=decoders,
            owner="me",
            **given,
        )
    finally:
        decoders.close()


def refused(folder: Path, limits: dict[str, int] | None = None, **given: Any) -> InvalidUpload:
    with pytest.raises(InvalidUpload) as caught:
        collected(folder, limits, **given)
    assert caught.value.detail.endswith(".")
    return caught.value


def codes(intake: ValidatedUpload) -> list[str]:
    return [warning["code"] for warning in intake.warnings]


def labelled(names: Sequence[str], folder: Path, **more: Any) -> ValidatedUpload:
    return collected(folder, images=jpegs(len(names)), labels=names, **more)


def test_lists(tmp_path: Path) -> None:
    tests = [crafted.upload(crafted.png(100), "t.png"), crafted.upload(crafted.png(101), "u.png")]
    intake = labelled(LABELS, tmp_path, test_images=tests, test_labels=["dog", "owl"])
    assert intake.classes == [
        {"name": "cat", "images": 4, "test_images": 0},
        {"name": "dog", "images": 4, "test_images": 1},
        {"name": "owl", "images": 0, "test_images": 1},
    ]
    assert intake.warnings == []
    assert [(s.split, s.class_name, s.file_name) for s in intake.images[6:]] == [
        ("train", "dog", "6.jpg"),
        ("train", "dog", "7.jpg"),
        ("test", "dog", "t.png"),
        ("test", "owl", "u.png"),
    ]
    assert intake.images[0].read() == crafted.jpeg(0)
    assert intake.images[0].bytes == len(crafted.jpeg(0))
    assert len(intake.images[0].sha256) == 64


def test_an_archive_gives_the_same_as_lists(tmp_path: Path) -> None:
    files = crafted.two_classes()
    lists = collected(
        tmp_path,
        images=[crafted.upload(content, name) for name, content in files.items()],
        labels=[name.split("/")[0] for name in files],
    )
    intake = collected(tmp_path, archive=crafted.upload(crafted.zip_of(files)))
    assert intake.classes == lists.classes
    assert [s.sha256 for s in intake.images] == [s.sha256 for s in lists.images]
    assert [s.read() for s in intake.images] == list(files.values())
    assert [s.file_name for s in intake.images] == list(files)
    assert [s.file_name for s in lists.images] == [name.split("/")[1] for name in files]


@pytest.mark.parametrize("in_memory", [100, 10**7])
def test_the_files_that_starlette_hands_on(in_memory: int, tmp_path: Path) -> None:
    def spooled(content: bytes) -> crafted.Upload:
        file = tempfile.SpooledTemporaryFile(max_size=in_memory)  # noqa: SIM115
        file.write(content)
        return crafted.Upload("a", file)  # type: ignore[arg-type]

    intake = collected(tmp_path, archive=spooled(crafted.zip_of(crafted.two_classes())))
    assert [s.read() for s in intake.images] == list(crafted.two_classes().values())
    lists = collected(tmp_path, images=[spooled(crafted.jpeg(i)) for i in range(8)], labels=LABELS)
    assert [s.read() for s in lists.images] == [crafted.jpeg(i) for i in range(8)]


def test_one_way_in() -> None:
    archive = crafted.upload(crafted.zip_of(crafted.two_classes()))
    for both_or_neither in ((None, [], []), (archive, jpegs(1), ["a"])):
        with pytest.raises(InvalidUpload) as caught:
            JobUpload(*both_or_neither, [], [])
        assert caught.value.code == "archive_or_images"


def test_counts_must_agree(tmp_path: Path) -> None:
    error = refused(tmp_path, images=jpegs(3), labels=LABELS, test_images=jpegs(1))
    assert error.code == "label_count"
    assert [e["pointer"] for e in error.errors] == ["/labels", "/test_labels"]
    assert refused(tmp_path, labels=["cat"]).code == "label_count"


def test_at_least_two_classes(tmp_path: Path) -> None:
    one = {"cat/a.jpg": crafted.jpeg(1), "cat/b.jpg": crafted.jpeg(2)}
    for files in (one, {f"train/{k}": v for k, v in one.items()} | {"test/dog/c.jpg": crafted.jpeg(3)}):
        error = refused(tmp_path, archive=crafted.upload(crafted.zip_of(files)))
        assert (error.code, error.status) == ("too_few_classes", 422)
    only_test = {"test/cat/a.jpg": crafted.jpeg(1), "test/dog/b.jpg": crafted.jpeg(2)}
    assert refused(tmp_path, archive=crafted.upload(crafted.zip_of(only_test))).code == "too_few_classes"
    assert refused(tmp_path, images=jpegs(2), labels=["cat", "CAT"]).code == "too_few_classes"


def test_few_images_are_reported_once(tmp_path: Path) -> None:
    intake = labelled([f"class {i // 2}" for i in range(40)], tmp_path)
    assert codes(intake) == ["few_images"]
    assert intake.warnings[0]["detail"].startswith("20 classes")


def test_names_that_differ_in_case_are_one_class(tmp_path: Path) -> None:
    names = ["Straße", "STRASSE", "straße", "strasse", *LABELS[4:]]
    intake = labelled(names, tmp_path, test_images=jpegs(1), test_labels=["DOG"])
    assert intake.classes == [
        {"name": "Straße", "images": 4, "test_images": 0},
        {"name": "dog", "images": 4, "test_images": 1},
    ]
    assert codes(intake)[:2] == ["merged_class_names", "merged_class_names"]
    assert "'Straße'" in intake.warnings[0]["detail"]

    files = {
        "test/CAT/a.jpg": crafted.jpeg(1),
        "train/cat/a.jpg": crafted.jpeg(2),
        "train/dog/a.jpg": crafted.jpeg(3),
    }
    merged = collected(tmp_path, archive=crafted.upload(crafted.zip_of(files)))
    assert merged.classes[0] == {"name": "cat", "images": 1, "test_images": 1}


@pytest.mark.parametrize("name", ["x" * 5_000, "a\0b", "", "  ", "line\nbreak", "\ud800", "x" * 201])
def test_bad_class_names(name: str, tmp_path: Path) -> None:
    error = refused(tmp_path, images=jpegs(3), labels=["cat", name, name])
    assert error.code == "invalid_class_names"
    assert [e["pointer"] for e in error.errors] == ["/labels/1", "/labels/2"]
    error.detail.encode()  # The error contains no lone surrogate.
    if name.strip() and name != "\ud800":
        safe = name.replace("\0", "~")  # Python's writer truncates a name at NUL.
        files = {"cat/a.jpg": crafted.jpeg(), f"{safe}/b.jpg": crafted.jpeg(2), f"{safe}/c.jpg": b"x"}
        content = crafted.upload(crafted.zip_of(files).replace(safe.encode(), name.encode()))
        if "\0" in name or len(name) > 768:
            with pytest.raises(ArchiveError) as caught:
                collected(tmp_path, archive=content)
            assert caught.value.code == "broken_archive"
        else:
            error = refused(tmp_path, archive=content)
            assert error.code == "invalid_class_names"
            assert len(error.errors) == 1


def bad_files() -> dict[str, bytes]:
    return {
        "cat/ok.jpg": crafted.jpeg(1),
        "cat/text.jpg": b"not an image",
        "cat/cut.jpg": crafted.jpeg(2)[:600],
        "cat/empty.jpg": b"",
        "dog/ok.jpg": crafted.jpeg(3),
        "dog/drawing.svg": crafted.SVG,
        "dog/bomb.png": crafted.pixel_bomb(),
        "dog/large.jpg": crafted.jpeg(4) + bytes(200_000),
    }


EXPECTED = {
    "cat/text.jpg": "not_an_image",
    "cat/cut.jpg": "truncated_image",
    "cat/empty.jpg": "empty_file",
    "dog/drawing.svg": "not_an_image",
    "dog/bomb.png": "too_many_pixels",
    "dog/large.jpg": "image_too_large",
}


@pytest.mark.parametrize("packer", [crafted.zip_of, None])
def test_every_bad_image_is_named(packer: Any, tmp_path: Path) -> None:
    files = bad_files()
    if packer:
        given: dict[str, Any] = {"archive": crafted.upload(packer(files))}
        expected = EXPECTED
    else:
        given = {
            "images": [crafted.upload(content, name) for name, content in files.items()],
            "labels": [name.split("/")[0] for name in files],
        }
        expected = {name.split("/")[1]: code for name, code in EXPECTED.items()}
    limits = {"max_image_bytes": 150_000}
    error = refused(tmp_path, limits, **given)
    assert (error.code, error.status) == ("bad_images", 422)
    assert {e["file"]: e["code"] for e in error.errors} == expected
    assert all(e["detail"].endswith(".") for e in error.errors)

    intake = collected(tmp_path, limits, on_bad_image="skip", **given)
    assert [s.file_name.rpartition("/")[2] for s in intake.images] == ["ok.jpg", "ok.jpg"]
    assert codes(intake) == ["bad_image"] * 6 + ["few_images"]


def test_skip_still_needs_an_image_for_each_class(tmp_path: Path) -> None:
    files = {"cat/a.jpg": crafted.jpeg(), "dog/b.jpg": b"broken", "owl/c.jpg": crafted.jpeg(2)}
    error = refused(tmp_path, archive=crafted.upload(crafted.zip_of(files)), on_bad_image="skip")
    assert error.code == "class_without_images"
    assert "'dog'" in error.detail
    assert [e["file"] for e in error.errors] == ["dog/b.jpg"]
    # A class of the test split alone may lose all of its images.
    files = {"train/cat/a.jpg": crafted.jpeg(), "train/dog/b.jpg": crafted.jpeg(2), "test/owl/c.jpg": b"x"}
    intake = collected(tmp_path, archive=crafted.upload(crafted.zip_of(files)), on_bad_image="skip")
    assert [c["name"] for c in intake.classes] == ["cat", "dog"]


def test_long_lists_of_errors_are_cut(tmp_path: Path) -> None:
    files = {f"cat/{i}.jpg": b"x" for i in range(250)} | crafted.two_classes()
    error = refused(tmp_path, archive=crafted.upload(crafted.zip_of(files)))
    assert len(error.errors) == 250
    assert "250 images" in error.detail


def test_too_many_images(tmp_path: Path) -> None:
    error = refused(tmp_path, {"max_images": 7}, images=jpegs(8), labels=LABELS)
    assert (error.code, error.status) == ("too_many_images", 413)
    archive = crafted.upload(crafted.zip_of(crafted.two_classes()))
    with pytest.raises(ArchiveError) as caught:
        collected(tmp_path, {"max_images": 7}, archive=archive)
    assert (caught.value.code, caught.value.status) == ("too_many_images", 413)


def test_file_names_are_for_display(tmp_path: Path) -> None:
    names = [
        "../../etc/passwd",
        "C:\\x\\a.jpg",
        "a\0b\n.png",
        "",
        None,
        "d/" + "x" * 500 + ".jpg",
        "🦊\ud800.jpg",
    ]
    images = [crafted.upload(crafted.jpeg(i), name) for i, name in enumerate(names)]
    intake = collected(tmp_path, images=images, labels=["a", "b", "a", "b", "a", "b", "a"])
    shown = [s.file_name for s in intake.images]
    assert shown[:5] == ["passwd", "a.jpg", "a\ufffdb\ufffd.png", "images[3]", "images[4]"]
    assert len(shown[5]) == 200
    assert shown[5].endswith("x.jpg")
    assert shown[6] == "🦊\ufffd.jpg"
    assert display_name("a/b") == "a/b"
    assert list(tmp_path.iterdir()) == []


def test_memory_stays_small(tmp_path: Path) -> None:
    noise = [crafted.jpeg(i) + bytes(2_000_000) for i in range(20)]  # 40 MB
    content = crafted.zip_of({f"{'cat' if i % 2 else 'dog'}/{i}.jpg": data for i, data in enumerate(noise)})
    path = tmp_path / "upload.zip"
    path.write_bytes(content)
    del noise, content
    folder = tmp_path / "images"
    folder.mkdir()
    with path.open("rb") as file:
        tracemalloc.start()
        intake = collected(folder, archive=crafted.Upload("upload.zip", file))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert len(intake.images) == 20
    assert peak < 20_000_000


TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="".join(BIDI_CONTROLS)),
    min_size=1,
    max_size=60,
).filter(lambda text: any(unicodedata.category(c) not in {"Cf", "Mn", "Zs"} for c in text))
STRANGE = [
    "🦊",
    "👩‍🚀",
    "it's",
    'say "cheese"',
    "a/b",
    "../../x",
    "con",
    "NaN",
    "null",
    "שועל",
    "{}",
    "%s",
    "<b>",
]
IMPOSSIBLE = ["nul\0", "x" * 10_000, "\ud800", "two\nlines", "\u202egnp.exe"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=TEXT | st.sampled_from(STRANGE), second=TEXT | st.sampled_from(STRANGE))
def test_any_printable_name_is_a_class(first: str, second: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"images": jpegs(2), "labels": [first, second]}
    try:
        intake = collected(tmp_path, **given)
    except InvalidUpload as error:
        if error.code != "too_few_classes":
            raise
        return
    assert [c["name"] for c in intake.classes] == [clean_class_name(first), clean_class_name(second)]
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=500)
@given(name=st.text(max_size=300) | st.sampled_from(STRANGE + IMPOSSIBLE))
def test_a_class_name_is_cleaned_once_or_refused(name: str) -> None:
    try:
        cleaned = clean_class_name(name)
    except InvalidClassNames as refused:
        refused.detail.encode()  # The error can be encoded.
        return
    assert 1 <= len(cleaned) <= 200
    assert not {"Cc", "Cs", "Zl", "Zp"} & {unicodedata.category(character) for character in cleaned}
    assert clean_class_name(cleaned) == cleaned == unicodedata.normalize("NFC", cleaned).strip()


@settings(max_examples=500)
@given(name=st.text(max_size=600) | st.sampled_from(STRANGE + IMPOSSIBLE))
def test_any_file_name_can_be_shown(name: str) -> None:
    shown = display_name(name)
    assert len(shown) <= 200
    shown.encode()  # No lone surrogate.
    assert not {"\0", "\n", "\r", "\x1b", "\u2028"} & set(shown)
    assert display_name(shown) == shown
