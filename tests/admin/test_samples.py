"""`clipcite samples`: sample images in a folder that `clipcite adapt` reads."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from clipcite.__main__ import app
from clipcite.datasets.detect import read
from core import sample


@pytest.mark.slow
def test_the_sample_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["samples"])
    assert done.exit_code == 0, done.output
    [folder] = tmp_path.iterdir()
    assert "clipcite adapt parts --wait --name parts" in done.stderr
    images = read(folder)
    assert f"parts/train  {images.count('train')} images" in done.stdout
    assert f"parts/test   {images.count('test')} images" in done.stdout
    assert set(images.class_names) == {*sample.TRAINED, *sample.NEW}


@pytest.mark.slow
def test_a_named_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my parts"
    done = CliRunner().invoke(app, ["samples", "parts", str(folder)])
    assert done.exit_code == 0, done.output
    assert f"clipcite adapt '{folder}'" in done.stderr
    assert len(list(folder.glob("train/*/*.jpg"))) == 24


def test_errors(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for arguments, says in (
        (["cats"], "No sample named 'cats'. Available: parts."),
        (["parts", str(tmp_path)], "contains other files, such as mine.txt. Choose another folder."),
        (["parts", str(tmp_path / "mine.txt")], "Choose another folder."),
    ):
        done = CliRunner().invoke(app, ["samples", *arguments])
        assert done.exit_code == 1
        assert says in done.stderr


def test_a_full_disk_is_an_error_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sample, "write", full)
    done = CliRunner().invoke(app, ["samples", "parts", str(tmp_path)])
    assert done.exit_code == 1
    assert done.stderr.startswith(f"{tmp_path} cannot be written: No space left on device.")
