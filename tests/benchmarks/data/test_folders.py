from pathlib import Path

import pytest

from benchmarks.data.dataset import BadDataSet
from benchmarks.data.folders import read_folders
from tests.benchmarks.data.tree import write_image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "fruit"
    for image in ("train/red apple/2.jpg", "train/red apple/1.JPEG", "train/fig/1.jpg"):
        write_image(root / image)
    for image in ("test/red apple/9.jpg", "test/fig/8.jpg"):
        write_image(root / image)
    return root


def test_reads_class_folders_in_sorted_order(root: Path) -> None:
    data = read_folders(root)
    assert data.name == "fruit"
    assert data.class_names == ("fig", "red apple")
    assert data.templates == ("a photo of a {}.",)
    train = [(e.path.relative_to(root).as_posix(), e.label) for e in data.train]
    assert train == [("train/fig/1.jpg", 0), ("train/red apple/1.JPEG", 1), ("train/red apple/2.jpg", 1)]
    assert [(e.path.name, e.label) for e in data.test] == [("8.jpg", 0), ("9.jpg", 1)]


def test_classes_of_one_half_only_are_kept(root: Path) -> None:
    write_image(root / "test/banana/1.jpg")
    write_image(root / "train/cherry/1.jpg")
    (root / "train/banana").mkdir()
    data = read_folders(root)
    assert data.class_names == ("banana", "cherry", "fig", "red apple")
    assert {e.label for e in data.train} == {1, 2, 3}
    assert {e.label for e in data.test} == {0, 2, 3}


def test_hidden_and_other_files_are_not_images(root: Path) -> None:
    before = read_folders(root)
    (root / "train/notes.txt").write_text("not a class")
    (root / "train/fig/notes.txt").write_text("not an image")
    write_image(root / "train/fig/._1.jpg")
    write_image(root / "train/.trash/1.jpg")
    assert read_folders(root) == before


@pytest.mark.parametrize("half", ["train", "test"])
def test_a_half_without_images_is_an_error(root: Path, half: str) -> None:
    for image in (root / half).glob("*/*"):
        image.unlink()
    with pytest.raises(BadDataSet, match=rf"No folder in .*{half} holds an image \(\.bmp, .*Put the images"):
        read_folders(root)
