"""Images of every kind, sent as bytes that decode to the same image."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipcite.datasets.dataset import dataset_of
from clipcite.datasets.image import ImageLike, as_image
from clipcite.errors import InvalidImages
from core.clip.data.images import open_image

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def decoded(given: ImageLike) -> np.ndarray:
    image = as_image(given, "a")
    data = image.read()
    assert data == image.read()  # Again from the beginning.
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


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "CMYK", "YCbCr", "LAB", "I", "F"])
def test_the_service_reads_every_mode_of_pil(mode: str) -> None:
    value = {"F": 100.0, "I": 100, "I;16": 100 * 257, "CMYK": (155, 155, 155, 0), "LA": (100, 255)}
    colour = value.get(mode, {"RGBA": (100, 100, 100, 255), "YCbCr": (100, 128, 128)}.get(mode, 100))
    image = Image.new(mode, (9, 9), {"LAB": (100, 0, 0), "1": 1}.get(mode, colour))
    data = as_image(image, "a").read()
    if mode not in {"1", "P", "LAB"}:  # Others have no grey of this value.
        assert np.asarray(open_image(data)).tolist() == np.full((9, 9, 3), 100).tolist()
    else:
        assert open_image(data).size == (9, 9)


def test_a_pil_image_that_cannot_be_saved_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidImages, match=r"can't be sent \(.*HSV.*\)\. Convert it to RGB"):
        as_image(Image.new("HSV", (9, 9)), "a")
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:80])
    with Image.open(tmp_path / "cut.png") as cut, pytest.raises(InvalidImages, match="can't be sent"):
        as_image(cut, "a")


def test_an_unreadable_file_is_an_error_with_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "a.png"
    (tmp_path / name).write_bytes(b"content")
    image = as_image(tmp_path / name, "a")
    open_file, refused = Path.open, f"{name} can't be read: Permission denied."

    def denied(path: Path, *arguments: object, **options: object) -> object:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return open_file(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(InvalidImages, match=refused):
        image.read()
    monkeypatch.setattr(Path, "is_file", denied)
    with pytest.raises(InvalidImages, match=refused):
        as_image(tmp_path / name, "a")


def test_other_files_are_refused() -> None:
    with pytest.raises(InvalidImages, match="not int"):
        as_image(3, "a")  # type: ignore[arg-type]
    for one in ("a.png", Path("a.png"), b"image", PIXELS, PIXELS[:, :, 0], Image.fromarray(PIXELS)):
        with pytest.raises(InvalidImages, match="needs a list of images"):
            dataset_of({"red": one})  # type: ignore[dict-item]
    assert dataset_of({"red": np.stack([PIXELS, PIXELS])}).count("train") == 2  # type: ignore[dict-item]
    with pytest.raises(InvalidImages, match="does not exist"):
        dataset_of({"red": ["gone.png"]})
