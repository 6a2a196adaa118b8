"""Public images as class folders."""

from pathlib import Path

from benchmarks.data.folders import read_folders
from benchmarks.data.prepare import NUMBERS, SIDE, main
from core.clip.data.images import open_image


def test_digits_need_only_scikit_learn(tmp_path: Path) -> None:
    main(["digits", str(tmp_path / "digits")])
    data = read_folders(tmp_path / "digits")
    assert sorted(data.class_names) == sorted(f"handwritten number {n}" for n in NUMBERS)
    assert (len(data.train), len(data.test)) == (240, 600)
    names = [example.path.name for example in (*data.train, *data.test)]
    assert len(set(names)) == 840  # no test image is a training image
    assert open_image(data.test[0].path).size == (SIDE, SIDE)
