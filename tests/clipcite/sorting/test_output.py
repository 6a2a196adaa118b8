"""Time, width and height of photos in the table of a sort."""

import subprocess
import sys
from pathlib import Path

import pillow_heif
import pytest
from PIL import Image

from clipcite.sorting.output import photo_of

TAKEN, CHANGED, ORIENTATION = 0x9003, 0x0132, 0x0112


def photo(path: Path, taken: str | None, changed: str | None, orientation: int = 1) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    if changed is not None:
        exif[CHANGED] = changed
    if taken is not None:
        exif.get_ifd(0x8769)[TAKEN] = taken
    Image.new("RGB", (30, 20)).save(path, exif=exif)
    return path


@pytest.mark.parametrize(
    ("taken", "changed", "time"),
    [
        ("2026:11:30 04:05:06", "2027:01:01 00:00:00", "2026-11-30T04:05:06"),
        (None, "2027:01:01 00:00:00", "2027-01-01T00:00:00"),
        (None, None, ""),
        ("never", None, ""),
    ],
)
def test_the_time_of_a_photo(tmp_path: Path, taken: str | None, changed: str | None, time: str) -> None:
    assert photo_of(photo(tmp_path / "a.jpg", taken, changed)) == (time, 30, 20)
    assert photo_of(photo(tmp_path / "b.jpg", taken, changed, orientation=6)) == (time, 20, 30)


def test_a_heic_photo(tmp_path: Path) -> None:
    """In a process of its own: other modules also let Pillow read them."""
    exif = Image.Exif()
    exif[CHANGED], exif[ORIENTATION] = "2027:01:01 00:00:00", 6
    pillow_heif.from_pillow(Image.new("RGB", (128, 96))).save(tmp_path / "a.heic", exif=exif.tobytes())
    program = "import sys; from clipcite.sorting.output import photo_of; print(photo_of(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a.heic"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "('2027-01-01T00:00:00', 96, 128)\n"


def test_a_file_that_is_not_an_image_has_neither(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"no image")
    assert photo_of(path) == photo_of(tmp_path / "gone.jpg") == ("", "", "")
