"""Splitting the user's folder, shuffling labels and packing the upload."""

import os
from collections import Counter
from pathlib import Path

import pytest

from demo.failure import DemoFailed
from demo.images import ImageSplit, LabelledImage, own_folder


def fill(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def some_images() -> ImageSplit:
    train = [LabelledImage(name, f"{i}.png", b"x") for name in ("bird", "fish", "flower") for i in range(6)]
    test = [LabelledImage(name, f"{i}.png", b"x") for name in ("fish", "bird", "hat") for i in range(4)]
    return ImageSplit(tuple(train), tuple(test))


def test_trained_classes_come_first_and_the_rest_is_new() -> None:
    images = some_images()
    assert images.trained_classes == ["bird", "fish", "flower"]
    assert images.new_classes == ["hat"]
    assert images.names == ["bird", "fish", "flower", "hat"]


def test_shuffling_moves_training_labels_only() -> None:
    before = some_images()
    after = before.with_shuffled_labels()
    assert after.test == before.test
    assert after.names == before.names
    assert Counter(p.class_name for p in after.train) == Counter(p.class_name for p in before.train)
    old = {(p.class_name, p.name) for p in before.train}
    assert {(p.class_name, p.name) for p in after.train} != old
    assert after == before.with_shuffled_labels()  # The same on every machine.


def test_own_folder(tmp_path: Path) -> None:
    fill(tmp_path / "train", "cat/a.jpg", "cat/deep/b.PNG", "cat/notes.txt", "cat/.hidden.jpg", "dog/a.jpg")
    fill(tmp_path / "train", ".git/a.jpg", "empty/readme.md", "loose.jpg")
    fill(tmp_path / "test", "Cat/c.jpg", "owl/a.webp")
    images = own_folder(tmp_path)
    assert [(p.class_name, p.name) for p in images.train] == [
        ("cat", "a.jpg"),
        ("cat", "deep/b.PNG"),
        ("dog", "a.jpg"),
    ]
    assert [(p.class_name, p.name) for p in images.test] == [("cat", "c.jpg"), ("owl", "a.webp")]
    assert images.new_classes == ["owl"]
    assert images.train[1].read() == b"cat/deep/b.PNG"


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ((), "train does not exist"),
        (("train/cat/a.jpg", "test/cat/a.jpg"), "1 classes"),
        (("train/cat/a.jpg", "train/dog/a.jpg"), "test does not exist"),
        (("train/cat/a.jpg", "train/dog/a.jpg", "test/cat/a.txt"), "no test images"),
    ],
)
def test_own_folder_of_another_layout_names_the_expected_one(
    tmp_path: Path, files: tuple[str, ...], word: str
) -> None:
    fill(tmp_path, *files)
    with pytest.raises(DemoFailed, match=word) as failure:
        own_folder(tmp_path)
    assert "train/<class name>/<images>" in failure.value.advice


def test_own_folder_with_file_names_that_are_not_text(tmp_path: Path) -> None:
    fill(tmp_path, "train/cat/a.jpg", "train/dog/a.jpg", "test/cat/a.jpg")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/test/cat/\xff.jpg")).write_bytes(b"x")
    images = own_folder(tmp_path)
    assert [p.name for p in images.test] == ["a.jpg", "�.jpg"]
    assert len(images.dataset().images) == 4


def test_the_upload_has_the_images_in_their_order() -> None:
    train = (
        LabelledImage("cat", "a.jpg", b"1"),
        LabelledImage("cat", "a.jpg", b"2"),
        LabelledImage("dog", "x/b.jpg", b"3"),
    )
    test = (LabelledImage("猫", "a.jpg", b"4"),)
    dataset = ImageSplit(train, test).dataset()
    sent = [(one.split, one.class_name, b"".join(one.image.chunks())) for one in dataset.images]
    assert sent == [
        ("train", "cat", b"1"),
        ("train", "cat", b"2"),
        ("train", "dog", b"3"),
        ("test", "猫", b"4"),
    ]
