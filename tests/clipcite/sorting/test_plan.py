"""Names of folders, and the places of images."""

import os
from pathlib import Path

import pytest

from clipcite.sorting.plan import FoundImage, SortedAs, plan, safe_names
from tests.clipcite.sorting.sorted_folder import make, run


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


def test_answers_decide_and_unreadable_images_stay(tmp_path: Path) -> None:
    """What a person said has no probability, and is never unsure."""
    into = tmp_path / "sorted"
    answers = {
        "0/a (2).jpg": SortedAs("cat", 0.9),
        "1/A.jpg": SortedAs("cat", 0.9),
        "2/a.JPG": SortedAs("cat", 0.6),
        "bad.jpg": SortedAs(error="broken"),
        "3/labelled.jpg": SortedAs("horse"),
        "4/unsure.jpg": SortedAs("cat", 0.59),
        "5/other.jpg": SortedAs(None),
    }
    images = [FoundImage(tmp_path / name, name) for name in answers]
    places = plan(images, answers, ["cat", "dog"], into, 0.6, "copy")
    assert [place.target and place.target.relative_to(into).as_posix() for place in places] == [
        *("cat/a (2).jpg", "cat/A.jpg", "cat/a (3).JPG", None, "horse/labelled.jpg"),
        *("unsure/unsure.jpg", "something else/other.jpg"),
    ]


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
