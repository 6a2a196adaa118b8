"""Names of folders, and the order of teaching."""

import struct
from base64 import b64encode
from pathlib import Path

import pytest

from clipcite.sorting.log import Answer
from clipcite.sorting.plan import Image, plan, safe_names
from clipcite.sorting.which_next import which_next
from tests.clipcite.sorting.sorted_folder import start


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
        ("Größe 猫", "Größe 猫"),
        ("猫" * 100, "猫" * 40),
    ],
)
def test_folder_names(class_name: str, folder: str) -> None:
    assert safe_names([class_name]) == {class_name: folder}


def test_folder_names_differ_also_in_lower_case() -> None:
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


def test_which_next_takes_unsure_images_that_are_unlike_the_chosen_ones() -> None:
    def answer(probability: float, *features: float) -> Answer:
        text = b64encode(struct.pack(f"<{len(features)}e", *features)).decode()
        return Answer([("cat", probability), ("dog", 1 - probability)], features=text)

    answers = [answer(0.55, 1, 0), answer(0.56, 2, 0), None, answer(0.8, 0, 1), Answer(error="broken")]
    assert which_next(answers, 2) == [0, 3]
    assert which_next(answers, 9) == [0, 3, 1]
    assert which_next([], 3) == []
