"""The demo's own images: their split, and the errors when they are unavailable."""

import stat
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from demo import stamps
from demo.failure import DemoFailed
from demo.stamps import NEW_CLASSES, TRAINED_CLASSES, split_stamps, square, stamps_folder


def fake_stamps(folder: Path, trained: int = 8, new: int = 2) -> Path:
    for names, count in ((TRAINED_CLASSES, trained), (NEW_CLASSES, new)):
        for below in names.values():
            (folder / below / "cartoon").mkdir(parents=True)
            for i in range(count):
                path = folder / below / ("cartoon" if i % 2 else ".") / f"image{i}.png"
                Image.new("RGBA", (6, 4), (255, 0, 0, 128)).save(path)
            for left_out in ("image0_mirror.png", "flip_image.png", "image0.txt"):
                (folder / below / left_out).write_bytes(b"")
    return folder


def fake_program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder with programs, on a machine without the images."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(stamps, "STAMPS", Path("usr/share/no such/stamps"))
    return folder


def test_six_shots_and_the_rest_is_for_testing(tmp_path: Path) -> None:
    images = split_stamps(fake_stamps(tmp_path))
    assert images.trained_classes == list(TRAINED_CLASSES)
    assert images.new_classes == list(NEW_CLASSES)
    assert len(images.train) == 6 * 6
    assert len(images.test) == 6 * 2 + 6 * 2
    birds = [p.name for p in (*images.train, *images.test) if p.class_name == "bird"]
    assert sorted(birds) == sorted({*birds})  # No image is in both splits.
    assert len(birds) == 8
    assert birds != sorted(birds)
    assert images == split_stamps(tmp_path)


def test_too_few_images(tmp_path: Path) -> None:
    with pytest.raises(DemoFailed, match="has 6 images of the class bird; the demo needs 7") as failure:
        split_stamps(fake_stamps(tmp_path, trained=6))
    assert "DATA=folder" in failure.value.advice


def test_square_is_white_around_and_below(tmp_path: Path) -> None:
    stamp = Image.new("RGBA", (40, 20), (0, 0, 0, 255))
    stamp.putpixel((0, 0), (0, 0, 0, 0))
    stamp.save(tmp_path / "stamp.png")
    image = Image.open(BytesIO(square(tmp_path / "stamp.png")))
    assert (image.mode, image.size) == ("RGB", (40, 40))
    white = (255, 255, 255)
    assert [image.getpixel(at) for at in ((20, 0), (0, 10), (1, 10), (20, 39))] == [
        white,
        white,
        (0, 0, 0),
        white,
    ]


def test_no_apt(programs: Path, tmp_path: Path) -> None:
    with pytest.raises(DemoFailed, match="no `apt-get`") as failure:
        stamps_folder(tmp_path / "cache")
    assert "DATA=folder" in failure.value.advice


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("E: Unable to locate package tuxpaint-stamps-default", "package lists are missing"),
        ("E: Failed to fetch http://deb.debian.org/x.deb  404  Not Found", "could not download"),
        ("E: Something of its own", "Something of its own"),
    ],
)
def test_apt_fails(programs: Path, tmp_path: Path, words: str, what: str) -> None:
    fake_program(programs, "dpkg", "exit 1")
    fake_program(programs, "apt-get", f"echo 'W: a warning' >&2; echo '{words}' >&2; exit 100")
    with pytest.raises(DemoFailed, match=what) as failure:
        stamps_folder(tmp_path / "cache")
    assert words in failure.value.reason
    assert "W: a warning" not in failure.value.reason
    assert "sudo apt-get update" in failure.value.advice
    assert "DATA=folder" in failure.value.advice
    assert not list((tmp_path / "cache").iterdir())


def test_downloaded_once(programs: Path, tmp_path: Path) -> None:
    fake_program(programs, "apt-get", ": > tuxpaint-stamps-default_1_all.deb")
    # dpkg -x FILE FOLDER
    fake_program(programs, "dpkg", f'/bin/mkdir -p "$3/{stamps.STAMPS}/animals"')
    folder = stamps_folder(tmp_path / "cache")
    assert (folder / "animals").is_dir()
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [folder.name]
    fake_program(programs, "apt-get", "exit 1")
    assert stamps_folder(tmp_path / "cache") == folder
