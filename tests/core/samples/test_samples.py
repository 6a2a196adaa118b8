"""The sample images: splits, and folders that are not overwritten."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.samples import parts, sample
from core.samples.sample import FolderInUse


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the sample small, because drawing all images takes long."""
    monkeypatch.setattr(sample, "TRAINED", ("gear",))
    monkeypatch.setattr(sample, "IMAGES", 3)
    monkeypatch.setattr(sample, "SHOTS", 2)


def test_the_split() -> None:
    paths = list(sample.paths())
    assert len({path for path, _, _ in paths}) == len(paths) == sample.SIZE
    assert len({(name, number) for _, name, number in paths}) == sample.SIZE
    training = [name for path, name, _ in paths if path.startswith("train/")]
    assert {name: training.count(name) for name in training} == dict.fromkeys(sample.TRAINED, sample.SHOTS)


def test_no_image_occurs_twice() -> None:
    """Four images of each class, because drawing all takes long."""
    images = [parts.load(name, number) for name in (*sample.TRAINED, *sample.NEW) for number in range(4)]
    pixels = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in images]
    assert {image.shape for image in pixels} == {(224, 224, 3)}
    assert min(image.std() for image in pixels) > 5
    assert len({image.tobytes() for image in pixels}) == len(images)


def test_a_drawing_is_reproducible() -> None:
    assert parts.load("gear", 3) == parts.load("gear", 3) != parts.load("gear", 4)


@pytest.mark.usefixtures("small")
def test_writing_twice_is_harmless(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    for _ in range(2):
        sample.write(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["CREDIT.txt", "test", "train"]
    assert len(list(folder.glob("train/gear/*.jpg"))) == 2
    assert "Apache-2.0" in (folder / "CREDIT.txt").read_text()


@pytest.mark.usefixtures("small")
def test_other_files_are_not_mixed_with_a_sample(tmp_path: Path) -> None:
    mine = tmp_path / "train" / "gear" / "mine.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(FolderInUse, match="mine"):
        sample.write(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]


@pytest.mark.usefixtures("small")
def test_a_file_of_the_sample_with_other_content_is_not_replaced(tmp_path: Path) -> None:
    sample.write(tmp_path)
    changed = min(tmp_path.glob("train/gear/*.jpg"))
    changed.write_bytes(b"mine")
    with pytest.raises(FolderInUse, match=changed.name):
        sample.write(tmp_path)
    assert changed.read_bytes() == b"mine"
