"""HEIC files that are too large or damaged are refused."""

import io
import struct
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from clipcite.client.errors import InvalidImages
from clipcite.datasets.heic import MAX_BYTES, jpeg_of_heic
from tests.api import crafted

FAST = {"preset": "ultrafast"}


def coded(side: int, *more: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    file = pillow_heif.from_pillow(Image.fromarray(crafted.pixels(1, side, side)))
    for image in more:
        file.add_from_pillow(image)
    file.save(buffer, enc_params=FAST, **options)
    return buffer.getvalue()


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def content_of(data: bytes, kind: bytes) -> bytes:
    at = data.index(kind)
    (size,) = struct.unpack(">I", data[at - 4 : at])
    return data[at + 4 : at - 4 + size]


def with_box(data: bytes, kind: bytes, content: bytes) -> bytes:
    """Return a file with other content for a box of the image list; a missing box is added."""
    meta = content_of(data, b"meta")
    if kind in meta:
        changed = meta.replace(box(kind, content_of(data, kind)), box(kind, content), 1)
    else:
        changed = meta + box(kind, content)
    return data.replace(box(b"meta", meta), box(b"meta", changed), 1)


def sized(data: bytes, width: int, height: int) -> bytes:
    """Return a file that declares this image size."""
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]


PLAIN = coded(256)
GRID = coded(256, tile_size=64)
TILES = 16


def grid_of_size(side: int) -> bytes:
    """Return a grid whose header and property declare this total size, with the existing tiles."""
    at = GRID.index(b"idat") + 8
    return sized(GRID[:at] + struct.pack(">HH", side, side) + GRID[at + 4 :], side, side)


LARGE = {
    "pixels": (sized(PLAIN, 20_000, 5_001), "has 20,000 x 5,001 pixels; the maximum is 100,000,000"),
    "pixels of a grid": (grid_of_size(60_000), "has 60,000 x 60,000 pixels"),
}
DAMAGED = {
    "no box": b"no image",
    "empty": b"",
    "no list": box(b"ftyp", b"heic\0\0\0\0mif1heic"),
    "two boxes": with_box(PLAIN, b"iinf", content_of(PLAIN, b"iinf")).replace(
        box(b"pitm", content_of(PLAIN, b"pitm")), box(b"iinf", bytes(6)), 1
    ),
    "endless box": PLAIN.replace(b"\0\0\0\x21hdlr", b"\xff\xff\xff\xffhdlr"),
    "box of no size": PLAIN.replace(b"\0\0\0\x21hdlr", b"\0\0\0\x01hdlr"),
    "primary": with_box(PLAIN, b"pitm", struct.pack(">IH", 0, 77)),
    "size": sized(PLAIN, 600, 600),
    "grid of too few tiles": grid_of_size(512),
    "unknown grid": GRID.replace(box(b"idat", content_of(GRID, b"idat")), box(b"idat", b"\1" + bytes(7))),
    "grid of too many tiles": GRID.replace(
        box(b"idat", content_of(GRID, b"idat")),
        box(b"idat", b"\0\1\xff\xff" + struct.pack(">HH", 60_000, 60_000)),
    ),
    "smaller than coded": sized(coded(320), 64, 64),
    "cut box": with_box(PLAIN, b"iloc", b"\1\0\0\0\x44\0\0"),
    "empty box": with_box(PLAIN, b"iinf", b""),
    "another codec": PLAIN.replace(b"hvc1", b"av01"),
    "item types": PLAIN.replace(b"infe\2", b"infe\1"),
}


@pytest.mark.parametrize("name", LARGE)
def test_a_file_of_too_many_pixels_is_refused(name: str, tmp_path: Path) -> None:
    content, says = LARGE[name]
    (tmp_path / "phone.heic").write_bytes(content)
    with pytest.raises(InvalidImages) as caught:
        jpeg_of_heic()(tmp_path / "phone.heic")
    assert f"phone.heic {says}" in str(caught.value)
    assert str(caught.value).endswith("Export it as a smaller JPEG.")


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "phone.heic").write_bytes(DAMAGED[name])
    with pytest.raises(
        InvalidImages, match=r"phone.heic is not a readable HEIC image \(.*\). Export it as JPEG."
    ) as caught:
        jpeg_of_heic()(tmp_path / "phone.heic")
    assert "list index" not in str(caught.value)


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "phone.heic").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(InvalidImages, match=r"has 50,000,001 bytes; the maximum is 50,000,000"):
        jpeg_of_heic()(tmp_path / "phone.heic")


@pytest.mark.parametrize("content", [PLAIN, GRID], ids=["plain", "grid"])
def test_any_change_gives_an_image_or_a_refusal(content: bytes, tmp_path: Path) -> None:
    """The file is cut anywhere, or three bytes of its structure change."""
    path, convert, refused = tmp_path / "phone.heic", jpeg_of_heic(), list[str]()
    random = np.random.default_rng(0)
    cut = [content[:end] for end in range(0, len(content), 31)]
    for _ in range(150):
        changed = bytearray(content)
        for at in random.integers(8, content.index(b"mdat"), 3):
            changed[at] = random.integers(0, 256)
        cut.append(bytes(changed))
    for broken in cut:
        path.write_bytes(broken)
        try:
            assert Image.open(io.BytesIO(convert(path))).format == "JPEG"
        except InvalidImages as problem:
            refused.append(str(problem))
    assert len(refused) > 100
    assert all("phone.heic" in said for said in refused)


def test_only_the_primary_image_is_decoded(tmp_path: Path) -> None:
    """The other image cannot be decoded."""
    content = coded(64, Image.fromarray(crafted.pixels(2, 96, 96)))
    path = tmp_path / "phone.heic"
    path.write_bytes(content)
    assert len(pillow_heif.open_heif(path)) == 2
    at = content.rindex(b"ispe") + 8
    broken = content[:at] + struct.pack(">II", 500, 500) + content[at + 8 :]
    with pytest.raises(ValueError, match="Invalid image size"):
        pillow_heif.open_heif(io.BytesIO(broken))[1].to_pillow()
    path.write_bytes(broken)
    assert Image.open(io.BytesIO(jpeg_of_heic()(path))).size == (64, 64)
