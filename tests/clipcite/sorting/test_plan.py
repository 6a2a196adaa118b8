"""Names of folders, and the order of teaching."""

import os
from pathlib import Path
from typing import Any

import pytest

from clipcite import Client
from clipcite.sorting import asking
from clipcite.sorting.log import Log
from clipcite.sorting.plan import Image, plan, safe_names
from clipcite.sorting.teaching import still_wrong
from tests.clipcite.sorting.sorted_folder import make, run, start


@pytest.mark.parametrize(
    ("class_name", "folder"),
    [
        ("red fox", "red fox"),
        ("cat/dog", "cat_dog"),
        ("..", "_"),
        (".hidden", "_hidden"),
        ('a<b>:"c|?*\n', "a_b___c____"),
        ("con", "_con"),
        ("LPT1.x", "_LPT1.x"),
        ("end. ", "end"),
        ("", "_"),
        ("unsure", "unsure (2)"),
        ("Something Else", "Something Else (2)"),
        ("Größe 猫", "Größe 猫"),
        ("猫" * 100, "猫" * 40),
    ],
)
def test_folder_names(class_name: str, folder: str) -> None:
    assert safe_names([class_name]) == {class_name: folder}


def test_folder_names_differ_even_in_lower_case() -> None:
    assert list(safe_names(["Cat", "cat", "a/b", "a:b", "cat (2)"]).values()) == [
        *("Cat", "cat (2)", "a_b", "a_b (2)", "cat (2) (2)")
    ]


def test_labels_decide_and_unreadable_images_stay(tmp_path: Path) -> None:
    log = start(tmp_path, tmp_path / "sorted", "copy")
    images = [
        Image(tmp_path / name, name)
        for name in ("0/a (2).jpg", "1/A.jpg", "2/a.JPG", "bad.jpg", "3/labelled.jpg")
    ]
    for image in images[:3]:
        log.write({"image": image.key, "answer": {"ranked": [("cat", 0.9), ("dog", 0.1)]}})
    for image in images[3:]:
        log.write({"image": image.key, "answer": {"error": "broken"}})
    log.write({"image": images[4].key, "label": "horse"})
    places = plan(images, log, tmp_path / "sorted", 0.6, "copy")
    assert [
        place.target and place.target.relative_to(tmp_path / "sorted").as_posix() for place in places
    ] == [*("cat/a (2).jpg", "cat/A.jpg", "cat/a (3).JPG", None, "horse/labelled.jpg")]


def test_another_photo_of_equal_size_and_time_is_not_the_copy(tmp_path: Path) -> None:
    folder, into = make(tmp_path / "photos", {"a.jpg": "cat"}), tmp_path / "sorted"
    run(folder, into, "copy", {"a.jpg": "cat"})
    target, time = into / "cat/a.jpg", (folder / "a.jpg").stat()
    target.write_text("CONTENT OF a.jpg")
    os.utime(target, ns=(time.st_atime_ns, time.st_mtime_ns))
    _, left = run(folder, into, "copy", {"a.jpg": "cat"})
    assert not left
    assert target.read_text() == "CONTENT OF a.jpg"
    assert (into / "cat/a (2).jpg").read_text() == "content of a.jpg"


def test_something_else_and_marks(tmp_path: Path) -> None:
    """A label outweighs the service's rejection, and a mark its best class."""
    log = start(tmp_path, tmp_path / "sorted", "copy")
    images = [Image(tmp_path / name, name) for name in ("0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg")]
    for number, image in enumerate(images):
        ranked, rejected = [("cat", 0.3 if number == 4 else 0.9)], number in (1, 2, 4)
        log.write({"image": image.key, "answer": {"ranked": ranked, "rejected": rejected}})
    log.write({"image": "2.jpg", "label": "dog"}, {"image": "3.jpg", "label": None})
    log = Log(log.path)

    def folders(**options: bool) -> list[str]:
        return [place.folder for place in plan(images, log, tmp_path / "sorted", 0.6, "copy", **options)]

    assert folders() == ["cat", "something else", "dog", "something else", "something else"]
    assert folders(reject=False) == ["cat", "cat", "dog", "something else", "unsure"]
    assert still_wrong(log, images) == "Perhaps 0 of 5 are still wrong, and 3 are something else."


def test_of_too_many_for_a_collection_the_least_sure_are_labelled(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(asking, "MAX_COLLECTION_IMAGES", 3)
    log = start(tmp_path, tmp_path / "sorted", "copy")
    images = [Image(tmp_path / name, name) for name in "abcd"]
    for image, probability in zip(images, (0.9, 0.5, 0.4, 0.6), strict=True):
        log.write({"image": image.key, "answer": {"ranked": [("cat", probability)], "features": "ADw="}})
    log.write({"image": "c", "label": "dog"})
    with Client("http://127.0.0.1:9") as client:
        assert asking.ask_again(client, log, images, None, 2) == (None, [images[1], images[3]])
