"""Files and bodies that cost a service far more than they cost their sender, and honest ones beside them."""

import gzip
import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

SIDE = 6_320
"""Of an image just below the default limit of 40 million pixels."""
FORMATS = ("JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP")


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@cache
def honest(kind: str, side: int) -> bytes:
    """A square image of smooth shades, as an ordinary program saves it; a progressive JPEG has 10 scans."""
    rough = np.random.default_rng(0).integers(0, 256, (79, 79, 3), dtype=np.uint8)
    image = Image.fromarray(rough).resize((side, side), Image.Resampling.BICUBIC)
    if kind == "JPEG":
        return encode(image, kind, quality=85, progressive=True)
    if kind == "WebP":
        return encode(image, kind, quality=50, method=0)
    # Few shades: files without loss stay below the limit on bytes.
    image = image.point(lambda value: value & 0xE0)
    if kind == "PNG":
        return encode(image, kind, compress_level=1)
    if kind == "TIFF":
        return encode(image, kind, compression="tiff_lzw")
    return encode(image.convert("L"), kind) if kind == "GIF" else _bmp_of_4_bits(image)


@cache
def worst(kind: str, side: int) -> bytes:
    """The file that takes longest to decode, of those below the limits on bytes, pixels and JPEG scans."""
    if kind == "JPEG":
        return scans(25 - 6, side)
    if kind == "PNG":
        return _png_of_16_bits(side)
    if kind == "WebP":
        return flat_webp(side)
    if kind == "GIF":
        return encode(Image.new("P", (side, side)), kind, transparency=0)
    return _tiff_of_jpegs(90, side) if kind == "TIFF" else _bmp_of_short_lines(side)


@cache
def scans(more: int, side: int) -> bytes:
    """A grey progressive JPEG of 6 scans, and its last scan so many times more."""
    data = encode(Image.new("L", (side, side)), "JPEG", progressive=True)
    start = data.rfind(b"\xff\xda")
    return data[:-2] + data[start:-2] * more + b"\xff\xd9"


@cache
def float_tiff(side: int) -> bytes:
    return encode(Image.new("F", (side, side)), "TIFF", compression="tiff_adobe_deflate")


@cache
def flat_webp(side: int) -> bytes:
    """Some 50 bytes, which are unpacked to four bytes a pixel."""
    return encode(Image.new("RGBA", (side, side), (1, 2, 3, 4)), "WEBP", lossless=True, method=0)


def _png_of_16_bits(side: int) -> bytes:
    """RGBA of 16 bits, every line by the Paeth filter."""
    packer = zlib.compressobj(6)
    line = b"\4" + bytes(8 * side)
    data = b"".join(packer.compress(line) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 16, 6, 0, 0, 0)
    out = b"\x89PNG\r\n\x1a\n"
    for name, content in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b"")):
        out += struct.pack(">I", len(content)) + name + content
        out += struct.pack(">I", zlib.crc32(name + content))
    return out


def _tiff_of_jpegs(more: int, side: int) -> bytes:
    """Strips that all are the same grey progressive JPEG; each has 6 scans and so many more.

    libtiff takes 100 scans a strip, and strips for which libjpeg needs less than 10 MB.
    """
    lines = min(400, side) // 8 * 8
    strips = side // lines
    start = encode(Image.new("L", (side, lines)), "JPEG", progressive=True)
    scan = start.rfind(b"\xff\xda")
    strip = start[:-2] + start[scan:-2] * more + b"\xff\xd9"
    places = 8 + 2 + 12 * 9 + 4
    lengths = places + 4 * strips
    fields = (
        (256, 4, 1, side),
        (257, 4, 1, strips * lines),
        (258, 3, 1, 8),
        (259, 3, 1, 7),  # compressed as JPEG
        (262, 3, 1, 1),
        (273, 4, strips, places),
        (277, 3, 1, 1),
        (278, 4, 1, lines),
        (279, 4, strips, lengths),
    )
    out = b"II*\0" + struct.pack("<IH", 8, len(fields))
    out += b"".join(struct.pack("<HHII", *field) for field in fields) + bytes(4)
    out += struct.pack(f"<{strips}I", *[lengths + 4 * strips] * strips)
    return out + struct.pack(f"<{strips}I", *[len(strip)] * strips) + strip


def _bmp(side: int, bits: int, compression: int, data: bytes) -> bytes:
    colours = 2**bits
    palette = b"".join(bytes([i * 255 // (colours - 1)] * 3 + [0]) for i in range(colours))
    start = 14 + 40 + len(palette)
    header = struct.pack(
        "<IiiHHIIiiII", 40, side, side, 1, bits, compression, len(data), 2835, 2835, colours, colours
    )
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + palette + data


def _bmp_of_4_bits(image: Image.Image) -> bytes:
    shades = np.asarray(image.convert("L")) >> 4
    rows = shades[:, 0::2] << 4 | shades[:, 1::2]
    return _bmp(image.width, 4, 0, np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))).tobytes())


def _bmp_of_short_lines(side: int) -> bytes:
    """Run-length encoded: one pixel of each line, then its end. Pillow fills the rest in Python, bytewise."""
    return _bmp(side, 8, 1, b"\1\7\0\0" * side + b"\0\1")


def sparse_tar(numbers: int) -> bytes:
    """One file whose map of holes has so many numbers."""
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    pax |= {"GNU.sparse.name": "cat/a.jpg", "GNU.sparse.realsize": "10"}
    return _packed(_entry(b"x", _pax(pax)), _entry(b"0", b"%d\n" % (numbers // 2) + b"0\n" * numbers))


def global_headers_tar(count: int, files: int = 300) -> bytes:
    """Global headers of 65 kB of distinct empty keys each, then files with a header of their own."""
    heads = (_entry(b"g", _pax({f"{i:x}.{j:x}": "" for j in range(5_000)})) for i in range(count))
    tail = (_entry(b"x", _pax({"comment": ""})) + _entry(b"0", b"") for _ in range(files))
    return _packed(*heads, *tail)


def header_chain_tar(kind: bytes, count: int = 400) -> bytes:
    """So many headers for the next file, `x` or `L`, one after another."""
    body = _pax({"comment": ""}) if kind == b"x" else b"cat/a.jpg\0"
    return _packed(*[_entry(kind, body)] * count, _entry(b"0", b""))


def _pax(records: Mapping[str, str]) -> bytes:
    out = b""
    for key, value in records.items():
        length = len(key) + len(value) + 3
        length += len(str(length + len(str(length))))
        out += f"{length} {key}={value}\n".encode()
    return out


def _entry(kind: bytes, body: bytes) -> bytes:
    info = tarfile.TarInfo("cat/a.jpg")
    info.type, info.size = kind, len(body)
    return info.tobuf(tarfile.GNU_FORMAT) + body + bytes(-len(body) % 512)


def _packed(*entries: bytes) -> bytes:
    return gzip.compress(b"".join(entries) + bytes(1024), mtime=0)


@cache
def zeros_zip(files: int, size: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(files):
            archive.writestr(f"{'cat' if i % 2 else 'dog'}/{i}.jpg", bytes(size))
    return buffer.getvalue()


def own_sentences(number: int, names: int) -> bytes:
    """JSON for /classify with names that have a hundred sentences of 4 kB of memory each."""
    texts = [f"\U0001f600{number}-{{}}-{j}".ljust(990, "x") for j in range(100)]
    listed = [
        {"name": f"n{number}-{i}", "texts": [text.replace("{}", str(i)) for text in texts]}
        for i in range(names)
    ]
    body = {"class_names": listed, "images": [{"base64": ""}]}
    return json.dumps(body, ensure_ascii=False).encode()
