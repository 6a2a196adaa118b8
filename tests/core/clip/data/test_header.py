"""Files within the size limits that are refused by their header, because decoding costs too much."""

import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from core.clip.data.header import MAX_FRAMES, ImageLimits, read_header
from core.clip.data.images import begin, open_image
from core.clip.errors import BadImage
from tests.api import crafted

GREY = np.full((64, 64), 90, np.uint8)

REFUSED = {
    "scans": (crafted.jpeg_of_scans(101, 64), "image_too_costly", "JPEG."),
    "frames": (crafted.webp_of_frames(MAX_FRAMES + 1), "image_too_costly", "alone."),
    "PNG of zeros": (crafted.pixel_bomb(), "too_many_pixels", "."),
    "WebP canvas": (crafted.webp_canvas(16_383, 9_000), "too_many_pixels", "."),
}
NEARLY = {
    "scans": crafted.jpeg_of_scans(100, 64),
    "exif parts": crafted.jpeg_of_exif_parts(2_000),
    "chunks": crafted.png_of_chunks(20_000),
    "frames": crafted.webp_of_frames(MAX_FRAMES - 1),
    "run-length": crafted.bmp_of_runs(1_000, 1_000, (b"\1\5" * 200 + b"\0\0") * 1_000 + b"\0\1"),
    "prefix codes": crafted.webp_of_prefix_codes(64),
    "comments": crafted.gif_of_comments(100_000),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_decoding(name: str) -> None:
    content, code, end = REFUSED[name]
    with pytest.raises(BadImage) as caught:
        read_header(content, ImageLimits())
    assert caught.value.code == code
    assert caught.value.detail.endswith(end)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", NEARLY)
def test_just_within_the_bounds(name: str) -> None:
    assert open_image(NEARLY[name]).mode == "RGB"


def test_more_scans_behind_the_first_image_do_not_count() -> None:
    content = crafted.jpeg()
    thumbnail = crafted.jpeg_of_scans(200, 64)
    exif = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 8) + b"Exif\0\0" + thumbnail
    assert np.array_equal(
        np.asarray(open_image(content[:2] + exif + content[2:] + thumbnail)),
        np.asarray(open_image(content)),
    )
    progressive = crafted.jpeg_of_scans(6, 64)
    assert open_image(progressive[:2] + exif + progressive[2:] + thumbnail).size == (64, 64)
    baseline = crafted.encoded(Image.fromarray(GREY), "JPEG")
    assert open_image(baseline + baseline * 30).size == (64, 64)


def test_scans_hidden_from_a_walk_are_followed() -> None:
    """Decoders skip fill bytes, restart markers and padding before a marker."""
    content = crafted.jpeg_of_scans(101, 64).replace(b"\xff\xda", b"\xff\xff\xff\xda")
    with pytest.raises(BadImage, match="scans"):
        read_header(content, ImageLimits())
    with pytest.raises(BadImage, match="scans"):
        read_header(crafted.jpeg_of_scans(101, 64).replace(b"\xff\xda", b"\xff\xd0xx\xff\xda"), ImageLimits())


def test_an_image_turned_by_its_xmp() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    content = crafted.encoded(Image.fromarray(crafted.pixels()), "JPEG", xmp=xmp)
    assert open_image(content).size == (40, 30)


@pytest.mark.filterwarnings("ignore:Tag data larger")
def test_many_tags_of_an_exif_block_do_not_hide_its_orientation() -> None:
    """Each tag refers to the same 60,000 bytes."""
    entries = [(274, 3, 1, 6)] + [(1_000 + i, 7, 60_000, 8) for i in range(400)]
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + table + bytes(60_000 - len(table))
    assert open_image(crafted.encoded(Image.fromarray(crafted.pixels()), "JPEG", exif=exif)).size == (
        40,
        30,
    )


def test_a_first_frame_larger_than_its_canvas_is_measured() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow's own limit.
        with pytest.raises(BadImage) as caught:
            read_header(crafted.gif_frame(12_000, 9_000), ImageLimits())
    assert caught.value.code == "too_many_pixels"


@pytest.mark.parametrize("mode", ["F", "I"])
def test_32_bits_have_a_limit_of_their_own(mode: str) -> None:
    for side, code in ((3_162, None), (3_163, "too_many_pixels")):
        content = crafted.encoded(Image.new(mode, (side, side)), "TIFF", compression="tiff_adobe_deflate")
        if code is None:
            assert read_header(content, ImageLimits()).image.size == (side, side)
            continue
        with pytest.raises(BadImage, match="32 bits") as caught:
            read_header(content, ImageLimits())
        assert caught.value.code == code


@pytest.mark.parametrize("kind", crafted.FORMATS)
def test_the_memory_of_an_ordinary_file_is_known_by_its_header(kind: str) -> None:
    content = crafted.honest(kind, 300)
    undecoded = begin(content, shortest_side=64)
    assert undecoded.header.pixels == 300 * 300
    scaled = (300 // 4) ** 2 if kind == "JPEG" else 300 * 300  # the decoder scales to twice the side or more
    assert 20 * scaled <= undecoded.peak_bytes - 2 * len(content) <= 20 * 300 * 300 + 8 * 300 * 300


def test_only_a_jpeg_of_several_scans_takes_memory_for_all_its_pixels() -> None:
    picture = Image.effect_noise((1_600, 1_600), 50)
    peaks = [
        begin(crafted.encoded(picture, "JPEG", **options), shortest_side=50).peak_bytes
        for options in ({}, {"progressive": True})
    ]
    assert peaks[0] < 8 * 1_600 * 1_600 < peaks[1]
