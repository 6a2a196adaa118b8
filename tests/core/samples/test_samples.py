"""The sample images: splits, reproducibility and pins."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.samples import catalog, drawings, parts
from core.samples.sample import FolderInUse, Sample, SampleUnavailable

SAMPLES = pytest.mark.parametrize("sample", catalog.SAMPLES, ids=lambda sample: sample.name)


@SAMPLES
def test_the_images_are_installed(sample: Sample) -> None:
    assert sample.problem() is None, "install the packages with `make install`"


@SAMPLES
def test_the_seed_moves_images_between_training_and_test(sample: Sample) -> None:
    first, second = (list(sample.paths(seed)) for seed in (0, 1))
    assert first == list(sample.paths(0))
    assert len({path for path, _, _ in first}) == len(first) == sample.size
    assert {(name, number) for _, name, number in first} == {(name, number) for _, name, number in second}
    assert first != second
    for paths in (first, second):
        training = [name for path, name, _ in paths if path.startswith("train/")]
        assert {name: training.count(name) for name in training} == dict.fromkeys(
            sample.trained, sample.shots
        )
    assert sum(path.startswith("test/") for path, _, _ in first) >= 60


@SAMPLES
def test_no_image_occurs_twice(sample: Sample) -> None:
    """Four images of each class, because drawing all takes long."""
    images = [sample.load(name, number) for name in (*sample.trained, *sample.new) for number in range(4)]
    pixels = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in images]
    assert {image.shape for image in pixels} == {(224, 224, 3)}
    assert min(image.std() for image in pixels) > 5
    assert len({image.tobytes() for image in pixels}) == len(images)


def test_no_symbol_occurs_twice() -> None:
    symbols = [symbol for of_class in drawings.SYMBOLS.values() for symbol in of_class]
    assert len(set(symbols)) == len(symbols) == drawings.DRAWINGS.size


def test_a_drawing_is_reproducible() -> None:
    assert parts.load("gear", 3) == parts.load("gear", 3) != parts.load("gear", 4)


@pytest.mark.slow
def test_the_archive_is_reproducible() -> None:
    assert parts.PARTS.archive() == catalog.archive("parts")


def test_writing_twice_is_harmless(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    small = replace(parts.PARTS, trained={"gear": 3}, new={"screw": 1}, shots=2)
    for _ in range(2):
        small.write(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["CREDIT.txt", "test", "train"]
    assert len(list(folder.glob("train/gear/*.jpg"))) == 2
    assert "Apache-2.0" in (folder / "CREDIT.txt").read_text()


def test_other_files_are_not_mixed_with_a_sample(tmp_path: Path) -> None:
    mine = tmp_path / "train" / "gear" / "mine.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(FolderInUse, match="mine"):
        parts.PARTS.write(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]


def test_a_file_of_the_sample_with_other_content_is_not_replaced(tmp_path: Path) -> None:
    small = replace(parts.PARTS, trained={"gear": 2}, new={}, shots=1)
    small.write(tmp_path)
    [changed] = tmp_path.glob("train/gear/*.jpg")
    changed.write_bytes(b"mine")
    with pytest.raises(FolderInUse, match=changed.name):
        small.write(tmp_path)
    assert changed.read_bytes() == b"mine"


def test_a_changed_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name, problem in (("changed_emoji", "another SHA-256"), ("no_emoji", "no-emoji is not installed")):
        monkeypatch.setattr(drawings, "PACKAGE", name)
        drawings._font.cache_clear()
        if name == "changed_emoji":
            font = tmp_path / name / drawings.FONT
            font.parent.mkdir(parents=True)
            (tmp_path / name / "__init__.py").touch()
            font.write_bytes(b"a")
        with pytest.raises(SampleUnavailable, match=problem):
            drawings.load("bird", 0)
