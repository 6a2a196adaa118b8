"""Images of every kind, sent as bytes that decode to the same image."""

import io
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from clipcite.client.errors import InvalidImages
from clipcite.datasets.dataset import dataset_of
from clipcite.datasets.image import ImageLike, as_image

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def decoded(given: ImageLike) -> np.ndarray:
    image = as_image(given, "a")
    data = b"".join(image.chunks())
    assert data == b"".join(image.chunks())  # Again from the beginning.
    assert image.size in {None, len(data)}
    return np.asarray(Image.open(io.BytesIO(data)))


def test_arrays_and_pil_images_arrive_pixel_by_pixel(tmp_path: Path) -> None:
    for pixels in (PIXELS, PIXELS[:, :, 0], np.dstack([PIXELS, PIXELS[:, :, :1]]), PIXELS[::2, ::-1]):
        assert (decoded(pixels) == pixels).all()
        assert (decoded(Image.fromarray(np.ascontiguousarray(pixels))) == pixels).all()
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    for given in (tmp_path / "a.png", str(tmp_path / "a.png"), (tmp_path / "a.png").read_bytes()):
        assert (decoded(given) == PIXELS).all()


@pytest.mark.parametrize("array", [PIXELS.astype(np.float32), PIXELS[:, :, :2], PIXELS[0, 0], PIXELS[:0]])
def test_other_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(InvalidImages, match=r"An array must be uint8 \[H, W\]"):
        as_image(array, "a")


def test_heic_is_sent_as_an_upright_jpeg(tmp_path: Path) -> None:
    pillow_heif.register_heif_opener()
    image = Image.new("RGB", (64, 32), (200, 30, 30))
    exif = image.getexif()
    exif[0x0112] = 6  # The phone was rotated.
    image.save(tmp_path / "phone.HEIC", exif=exif.tobytes())
    sent = as_image(tmp_path / "phone.HEIC", "a")
    assert sent.name == "phone.jpg"
    shown = Image.open(io.BytesIO(b"".join(sent.chunks())))
    assert (shown.format, shown.size) == ("JPEG", (32, 64))
    (tmp_path / "broken.heic").write_bytes(b"no image")  # The service lists it with other unusable images.
    assert b"".join(as_image(tmp_path / "broken.heic", "a").chunks()) == b"no image"


@pytest.mark.parametrize("name", ["a.png", "a.heic"])
def test_an_unreadable_file_is_an_error_with_its_path(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(b"content")
    image = as_image(tmp_path / name, "a")
    open_file, refused = Path.open, f"{name} can't be read: Permission denied."

    def denied(path: Path, *arguments: object, **options: object) -> object:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return open_file(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(InvalidImages, match=refused):
        list(image.chunks())
    monkeypatch.setattr(Path, "is_file", denied)
    with pytest.raises(InvalidImages, match=refused):
        as_image(tmp_path / name, "a")


def test_heic_without_the_extra_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"")
    with pytest.raises(InvalidImages, match="pip install pillow-heif"):
        as_image(tmp_path / "a.heic", "a")


def test_other_files_are_refused() -> None:
    with pytest.raises(InvalidImages, match="not int"):
        as_image(3, "a")  # type: ignore[arg-type]
    with pytest.raises(InvalidImages, match="needs a list of images"):
        dataset_of({"red": "a.png"})
    with pytest.raises(InvalidImages, match="does not exist"):
        dataset_of({"red": ["gone.png"]})
