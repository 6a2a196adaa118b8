"""The sample images: splits, and folders that are not overwritten."""

import io
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core import sample
from core.sample import FolderInUse


def test_the_split() -> None:
    counts = Counter(tuple(path.split("/")[:2]) for path in sample.images())
    tests = sample.IMAGES - sample.SHOTS
    assert counts == {
        **{("train", name): sample.SHOTS for name in sample.TRAINED},
        **{("test", name): tests for name in sample.TRAINED},
        **{("test", name): sample.IMAGES for name in sample.NEW},
    }
    assert counts.total() == sample.SIZE


def test_no_image_occurs_twice() -> None:
    pixels = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in sample.images().values()]
    assert {image.shape for image in pixels} == {(224, 224, 3)}
    assert min(image.std() for image in pixels) > 5
    assert len({image.tobytes() for image in pixels}) == len(pixels)


def test_the_zip_has_the_credit() -> None:
    with zipfile.ZipFile(sample.ARCHIVE) as file:
        assert file.comment.decode() == f"{sample.TITLE}. {sample.CREDIT} Licence: {sample.LICENSE}."


def test_writing_twice_is_harmless(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    for _ in range(2):
        sample.write(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["CREDIT.txt", "test", "train"]
    assert len(list(folder.glob("train/gear/*.jpg"))) == sample.SHOTS
    assert "Apache-2.0" in (folder / "CREDIT.txt").read_text()


def test_other_files_are_not_mixed_with_a_sample(tmp_path: Path) -> None:
    mine = tmp_path / "train" / "gear" / "mine.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(FolderInUse, match="mine"):
        sample.write(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]


def test_a_file_of_the_sample_with_other_content_is_not_replaced(tmp_path: Path) -> None:
    sample.write(tmp_path)
    changed = min(tmp_path.glob("train/gear/*.jpg"))
    changed.write_bytes(b"mine")
    with pytest.raises(FolderInUse, match=changed.name):
        sample.write(tmp_path)
    assert changed.read_bytes() == b"mine"
