import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from core.clip.data.header import ImageLimits
from core.clip.data.images import open_image
from core.clip.errors import BadImage
from tests.api import crafted

PIXELS = crafted.pixels()
IMAGE = Image.fromarray(PIXELS)


def array(source: bytes, **options: int) -> np.ndarray:
    image = open_image(source, **options)  # type: ignore[arg-type]
    assert image.mode == "RGB"
    assert not image.info
    return np.asarray(image).astype(int)


def refused(source: bytes | Path, limits: ImageLimits | None = None) -> str:
    with pytest.raises(BadImage) as caught:
        open_image(source, limits or ImageLimits())
    assert caught.value.detail.endswith(".")
    return caught.value.code


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}, 8),
        ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}, 8),
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}, 8),
        ("HEIF", {"quality": -1, "chroma": 444}, 8),
    ],
)
def test_each_kind_is_read_by_content(
    kind: str, options: dict[str, object], tolerance: int, tmp_path: Path
) -> None:
    content = crafted.encoded(IMAGE, kind, **options)
    assert np.abs(array(content) - PIXELS).max() <= tolerance
    path = tmp_path / "wrong name.txt"
    path.write_bytes(content)
    assert np.array_equal(np.asarray(open_image(path)), array(content))


GREYED = {"JPEG": ("RGB", "L", "CMYK"), "PNG": ("RGB", "L", "LA", "RGBA"), "GIF": ("RGB", "L")}


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind in GREYED for mode in GREYED[kind]])
def test_grey_is_the_grey_of_the_colours(kind: str, mode: str) -> None:
    file = io.BytesIO()
    IMAGE.convert(mode).save(file, kind)
    for side in (None, 24):
        grey = open_image(file.getvalue(), shortest_side=side, grey=True)
        assert (grey.mode, grey.info) == ("L", {})
        expected = open_image(file.getvalue(), shortest_side=side).convert("L")
        apart = np.asarray(grey).astype(int) - np.asarray(expected).astype(int)
        assert np.abs(apart).mean() < 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_turns_an_image_once(kind: str) -> None:
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Transpose the image as the camera stored it.
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    for orientation, turn in undo.items():
        stored = IMAGE if turn is None else IMAGE.transpose(Image.Transpose(turn))
        exif = Image.Exif()
        exif[0x0112] = orientation
        result = array(crafted.encoded(stored, kind, exif=exif, **options))
        assert np.abs(result - PIXELS).max() <= (8 if kind == "JPEG" else 0), orientation


def test_images_with_broken_exif_are_accepted() -> None:
    content = crafted.encoded(IMAGE, "JPEG", exif=b"Exif\0\0garbage that is no TIFF at all")
    assert array(content).shape == PIXELS.shape


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_simple_modes(mode: str) -> None:
    image = IMAGE.convert(mode)
    assert np.array_equal(array(crafted.encoded(image, "PNG")), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_keeps_its_colours(kind: str) -> None:
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}  # JPEG: Adobe inverts the ink.
    assert np.abs(array(crafted.encoded(IMAGE.convert("CMYK"), kind, **options)) - PIXELS).max() <= 12


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "TIFF big endian"])
def test_16_bit_grey_equals_its_8_bit_version(kind: str) -> None:
    deep = np.random.default_rng(1).integers(0, 2**16, (40, 30)).astype(np.uint16)
    if kind == "PNG":
        content = crafted.png16(deep, 0)
    else:
        image = Image.fromarray(deep)
        if kind.endswith("big endian"):
            image = Image.frombytes("I;16B", image.size, deep.astype(">u2").tobytes())
        content = crafted.encoded(image, "TIFF")
    assert np.abs(array(content)[..., 0] - deep / 257).max() <= 1


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_colour_equals_its_8_bit_version(colour_type: int, channels: int) -> None:
    deep = np.random.default_rng(1).integers(0, 2**16, (40, 30, channels)).astype(np.uint16)
    colour = deep[..., :3] if channels > 2 else deep[..., :1].repeat(3, -1)
    alpha = deep[..., -1:] / 65_535 if channels in {2, 4} else 1
    expected = colour / 257 * alpha + 255 * (1 - alpha)
    assert np.abs(array(crafted.png16(deep, colour_type)) - expected).max() <= 2


def test_deep_grey_of_floats_and_32_bits() -> None:
    grey = PIXELS[..., 0]
    for values in (grey.astype(np.float32), grey.astype(np.float32) / 255, grey.astype(np.int32) * 257):
        content = crafted.encoded(Image.fromarray(values), "TIFF")
        assert np.abs(array(content)[..., 0] - grey).max() <= 1
    broken = grey.astype(np.float32)
    broken[0, 0] = np.nan
    assert array(crafted.encoded(Image.fromarray(broken), "TIFF"))[0, 0, 0] == 0


def test_transparency_lies_on_white() -> None:
    alpha = np.full((40, 30), 255, np.uint8)
    alpha[:20] = 0
    rgba = Image.fromarray(np.dstack([PIXELS, alpha]))
    expected = PIXELS.copy()
    expected[:20] = 255
    assert np.array_equal(array(crafted.encoded(rgba, "PNG")), expected)
    assert np.array_equal(array(crafted.encoded(rgba, "WEBP", lossless=True)), expected)
    grey = array(crafted.encoded(rgba.convert("LA"), "PNG"))
    assert (grey[:20] == 255).all()

    palette = Image.fromarray(np.arange(1200).reshape(40, 30).astype(np.uint8) % 4).convert("P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    for kind in ("PNG", "GIF"):
        result = array(crafted.encoded(palette, kind, transparency=0))
        index = np.asarray(palette)
        assert (result[index == 0] == 255).all()
        assert (result[index == 1] == [0, 255, 0]).all()
    some = array(crafted.encoded(palette, "PNG", transparency=bytes([128, 255, 255, 255])))
    assert (some[np.asarray(palette) == 0] == [255, 127, 127]).all()
    colour = array(crafted.encoded(palette.convert("RGB"), "PNG", transparency=(255, 0, 0)))
    assert (colour[np.asarray(palette) == 0] == 255).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (30, 40), (255, i % 250, 0)) for i in range(300)]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = crafted.encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert (array(content) == [255, 0, 0]).all()


def test_shortest_side() -> None:
    large = Image.fromarray(crafted.pixels(3, 400, 300))
    exact = np.asarray(large.resize((30, 40), Image.Resampling.BICUBIC)).astype(int)
    for kind in ("PNG", "JPEG"):
        content = crafted.encoded(large, kind, **({"quality": 100} if kind == "JPEG" else {}))
        assert open_image(content).size == (300, 400)
        result = array(content, shortest_side=30)
        assert result.shape == (40, 30, 3)
        assert np.abs(result - exact).mean() < 2
        assert array(content, shortest_side=300).shape == (400, 300, 3)
        assert array(content, shortest_side=9_999).shape == (400, 300, 3)
    # A very long image is cropped to its middle; scaling alone would leave it nearly as large.
    assert array(crafted.png(0, 4, 5_000), shortest_side=1).shape == (1, 16, 3)
    assert array(crafted.png(0, 5, 5_000), shortest_side=1).shape == (1, 16, 3)


@pytest.mark.parametrize("percent", range(10, 100, 10))
@pytest.mark.parametrize("kind", ["JPEG", "progressive", "PNG", "WEBP", "GIF", "TIFF", "AVIF", "HEIF"])
def test_cut_short(kind: str, percent: int) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 80, 3), dtype=np.uint8))
    options = {"progressive": True} if kind == "progressive" else {}
    content = crafted.encoded(noise, "JPEG" if kind == "progressive" else kind, **options)
    cut = content[: len(content) * percent // 100]
    assert refused(cut) == "truncated_image"
    with pytest.raises(BadImage):
        open_image(cut, shortest_side=1)


@pytest.mark.parametrize("name", crafted.NOT_IMAGES)
def test_not_an_image(name: str) -> None:
    assert refused(crafted.NOT_IMAGES[name]) == "not_an_image"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
@pytest.mark.parametrize("name", crafted.POLYGLOTS)
def test_files_with_only_an_image_signature(name: str) -> None:
    assert refused(crafted.POLYGLOTS[name]) in {
        "not_an_image",
        "truncated_image",
        "too_many_pixels",
    }


def test_empty_and_too_large(tmp_path: Path) -> None:
    assert refused(b"") == "empty_file"
    path = tmp_path / "a"
    path.write_bytes(crafted.jpeg())
    assert refused(path, ImageLimits(max_bytes=100)) == "image_too_large"
    assert refused(crafted.jpeg(), ImageLimits(max_bytes=100)) == "image_too_large"
    assert open_image(path, ImageLimits(path.stat().st_size, 1_200)).size == (30, 40)
    assert refused(path, ImageLimits(max_pixels=1_199)) == "too_many_pixels"


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (3, 4)])
def test_a_blank_image(size: tuple[int, int]) -> None:
    assert refused(crafted.encoded(Image.new("RGB", size, "red"), "PNG")) == "image_too_small"


def test_pillows_own_pixel_limit_is_not_used() -> None:
    bomb = crafted.pixel_bomb(10_000)  # Pillow only warns here.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refused(bomb) == "too_many_pixels"
        assert open_image(bomb, ImageLimits(max_pixels=10**8), shortest_side=10).size == (10, 10)


def test_a_huge_tile_is_refused() -> None:
    content = bytearray(crafted.encoded(IMAGE.convert("L"), "TIFF"))
    # A little-endian directory entry: tag, type long, count 1, value. TileWidth replaces StripOffsets.
    for old, new in ((278, 322), (279, 323)):
        at = content.index(old.to_bytes(2, "little") + b"\4\0\1\0\0\0")
        content[at : at + 12] = new.to_bytes(2, "little") + b"\4\0\1\0\0\0" + (30_000).to_bytes(4, "little")
    assert refused(bytes(content)) == "too_many_pixels"


SEEDS = [
    crafted.encoded(IMAGE, kind, **options)
    for kind, options in [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ]
]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
@settings(max_examples=400)
@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 255)), max_size=8),
    end=st.integers(1, 10_000),
)
def test_garbage_is_a_bad_image_or_an_image(seed: bytes, changes: list[tuple[int, int]], end: int) -> None:
    content = bytearray(seed[:end])
    for place, value in changes:
        content[place % len(content)] = value
    try:
        image = open_image(bytes(content), ImageLimits(max_pixels=1_000_000))
    except BadImage:
        return
    assert image.mode == "RGB"
