"""Test files made in code: valid images of every kind, broken ones, archives and decompression bombs."""

import gzip
import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from functools import cache

import numpy as np
from PIL import Image
from starlette.datastructures import UploadFile


def upload(content: bytes, name: str | None = "a.jpg") -> UploadFile:
    return UploadFile(io.BytesIO(content), filename=name)


def pixels(seed: int = 0, height: int = 40, width: int = 30) -> np.ndarray:
    """Return a smooth colour image [H, W, 3] uint8 without symmetry; each seed gives a different one."""
    rough = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC))


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(seed: int = 0, height: int = 40, width: int = 30) -> bytes:
    return encoded(Image.fromarray(pixels(seed, height, width)), "JPEG", quality=95, subsampling=0)


def png(seed: int = 0, height: int = 40, width: int = 30) -> bytes:
    return encoded(Image.fromarray(pixels(seed, height, width)), "PNG")


def png_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    out = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks:
        out += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return out


def png16(values: np.ndarray, colour_type: int) -> bytes:
    """Return a 16-bit PNG from [H, W] (type 0) or [H, W, C] (2: RGB, 4: LA, 6: RGBA) uint16."""
    height, width = values.shape[:2]
    rows = values.astype(">u2").reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return png_chunks((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))


def pixel_bomb(side: int = 30_000) -> bytes:
    """Return a valid PNG with one bit per pixel: about 112 kB at 30,000 x 30,000."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return png_chunks((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))


def webp_canvas(width: int, height: int) -> bytes:
    """Return an animated WebP with a canvas of any size and one small frame."""
    still = encoded(Image.fromarray(pixels()), "WEBP")[12:]
    frame = bytes(6) + (29).to_bytes(3, "little") + (39).to_bytes(3, "little") + bytes(4) + still
    canvas = b"\2\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = ((b"VP8X", canvas), (b"ANIM", bytes(6)), (b"ANMF", frame))
    body = b"WEBP" + b"".join(name + len(data).to_bytes(4, "little") + data for name, data in chunks)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>'
NOT_IMAGES = {
    "text": b"BMW is a make of cars, and this is a text with .jpg at its end.\n" * 9,
    "svg": SVG,
    "pdf": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer<<>>\n%%EOF\n",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "html": b"<!doctype html><html><img src=x></html>",
    "zeros": bytes(1000),
    "one byte": b"\xff",
    "zip": b"PK\3\4" + bytes(100),
    "ico": b"\0\0\1\0\1\0" + bytes(60),
    "ppm": b"P6 2 2 255\n" + bytes(12),
    "fits": b"SIMPLE  =                    T" + bytes(200),
    "mp4": b"\0\0\0\x18ftypmp42" + bytes(100),
    "wav": b"RIFF\x24\0\0\0WAVEfmt " + bytes(100),
    "psd": b"8BPS\0\1" + bytes(100),
    "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100),
    "gzip": gzip.compress(b"x" * 100, mtime=0),
    "elf": b"\x7fELF\2\1\1" + bytes(100),
    "pickle": b"\x80\4\x95" + bytes(100),
    "icc": bytes(36) + b"acsp" + bytes(100),
}
# Files that start like an image, are none, and would be something else to another program.
POLYGLOTS = {
    "gif and script": b"GIF89a=1;alert('x')//" + bytes(50),
    "jpeg and php": b"\xff\xd8\xff\xe0<?php system($_GET['c']); ?>",
    "png and html": b"\x89PNG\r\n\x1a\n<script>alert(1)</script>" + bytes(50),
    "bmp and text": b"BM" + b" is a make of cars, and this is a text" * 3,
    "avif": b"\0\0\0\x20ftypavif" + bytes(100),
    "heic": b"\0\0\0\x18ftypheic" + bytes(100),
    "tiff and zip": b"II*\0PK\3\4" + bytes(100),
}


def zip_of(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


def tar_of(files: Mapping[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tar_gz_of(files: Mapping[str, bytes]) -> bytes:
    return tar_of(files, "w:gz")


def zip_with_link(name: str = "cat/a.jpg", target: str = "/etc/passwd") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.create_system = 3
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, target)
    return buffer.getvalue()


def zip_bomb(size: int = 50_000_000, name: str = "cat/a.jpg") -> bytes:
    """Return about 49 kB that unpack to 50 MB."""
    return zip_of({name: bytes(size), "dog/b.jpg": jpeg()})


def zip_raw(entries: Iterable[tuple[bytes, int, int, bytes, int]], blob: bytes) -> bytes:
    """Return a zip with any directory over `blob`; an entry is (name, offset, packed size, CRC, size)."""
    rows = [
        b"PK\1\2"
        + struct.pack("<HHHHHH", 20, 20, 0, 8, 0, 0x21)
        + crc
        + struct.pack("<IIHHHHHII", packed, size, len(name), 0, 0, 0, 0, 0, offset)
        + name
        for name, offset, packed, crc, size in entries
    ]
    directory, count = b"".join(rows), min(len(rows), 0xFFFF)
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(blob), 0)
    return blob + directory + end


def zip_of_empty(names: Iterable[bytes], extra: bytes = b"") -> bytes:
    """Return empty files under any UTF-8 names, each with `extra` fields in the directory."""
    blob, rows = bytearray(), bytearray()
    count = 0
    for name in names:
        count += 1
        common = struct.pack("<HHHHIIIHH", 0x800, 0, 0, 0x21, 0, 0, 0, len(name), 0)
        rows += b"PK\1\2" + struct.pack("<HH", 20, 20) + common[:-2] + struct.pack("<H", len(extra))
        rows += struct.pack("<HHHII", 0, 0, 0, 0, len(blob)) + name + extra
        blob += b"PK\3\4" + struct.pack("<H", 20) + common + name
    listed = min(count, 0xFFFF)
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, listed, listed, len(rows), len(blob), 0)
    return bytes(blob + rows + end)


def zip_with_long_local_names(entries: int = 19_900) -> bytes:
    """Return a zip whose local headers each claim a name of 65,535 bytes: the headers that follow."""
    header = b"PK\3\4" + struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0x21, 0, 0, 0, 65_535, 0)
    blob = header * entries + bytes(65_600)
    return zip_raw(((b"cat/%05d" % i, len(header) * i, 0, bytes(4), 0) for i in range(entries)), blob)


def zip64_with(*, size: int = 4, packed: int = 4, offset: int = 0) -> bytes:
    """Return a zip of two entries; the second has a 64-bit size and offset with the passed values."""
    name = b"cat/a.jpg"
    blob = b"PK\3\4" + struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0x21, 0, 4, 4, len(name), 0) + name + b"abcd"
    rows = b""
    for entry, extra in (
        (name, b""),
        (b"dog/a.jpg", struct.pack("<HHQQQ", 1, 24, size, packed, offset)),
    ):
        sizes = (4, 4) if not extra else (0xFFFFFFFF, 0xFFFFFFFF)
        rows += b"PK\1\2" + struct.pack("<HHHHHHIII", 20, 45, 0, 0, 0, 0x21, 0, *sizes)
        rows += (
            struct.pack("<HHHHHII", len(entry), len(extra), 0, 0, 0, 0, 0xFFFFFFFF if extra else 0)
            + entry
            + extra
        )
    return blob + rows + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 2, 2, len(rows), len(blob), 0)


def overlapping_zip(entries: int = 100, size: int = 15_000_000) -> bytes:
    """Return a zip whose directory entries all point to the same packed bytes."""
    data = bytes(size)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(data) + packer.flush()
    crc = struct.pack("<I", zlib.crc32(data))
    name = b"cat/a.jpg"
    local = (
        b"PK\3\4"
        + struct.pack("<HHHHH", 20, 0, 8, 0, 0x21)
        + crc
        + struct.pack("<IIHH", len(packed), size, len(name), 0)
        + name
        + packed
    )
    names = [f"cat/{i:05d}"[:9].encode() for i in range(entries)]
    return zip_raw([(n, 0, len(packed), crc, size) for n in names], local)


def encrypted_zip() -> bytes:
    """Return a plain zip whose entries are flagged as encrypted."""
    content = bytearray(zip_of({"cat/a.jpg": jpeg()}))
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    return bytes(content)


def two_classes(images: int = 4) -> dict[str, bytes]:
    return {
        f"{name}/{i}.jpg": jpeg(10 * row + i)
        for row, name in enumerate(["red fox", "badger"])
        for i in range(images)
    }


# Worst-case files: within the limits on bytes and pixels, at the highest decoding cost of their format.


@cache
def jpeg_of_scans(scans: int, side: int = 6000, height: int | None = None) -> bytes:
    """Return a progressive JPEG that repeats its last scan."""
    content = encoded(Image.new("L", (side, height or side)), "JPEG", progressive=True)
    last = content.rfind(b"\xff\xda")
    return content[:-2] + content[last:-2] * (scans - 6) + b"\xff\xd9"


def jpeg_of_exif_parts(parts: int) -> bytes:
    """Return a JPEG with metadata in many segments, which Pillow joins one by one."""
    content = jpeg()
    return content[:2] + b"\xff\xe1\0\x09Exif\0\0x" * parts + content[2:]


def png_of_chunks(chunks: int) -> bytes:
    empty = png_chunks((b"IDAT", b""))[8:]
    content = png()
    at = content.index(b"IDAT") - 4
    return content[:at] + empty * chunks + content[at:]


def webp_of_frames(frames: int, side: int = 64) -> bytes:
    still = webp_canvas(side, side)
    frame = still[still.index(b"ANMF") :]
    body = still[8 : still.index(b"ANMF")] + frame * frames
    return b"RIFF" + len(body).to_bytes(4, "little") + body


class _Bits:
    def __init__(self) -> None:
        self.value = self.count = 0
        self.out = bytearray()

    def put(self, value: int, count: int) -> None:
        self.value |= value << self.count
        self.count += count
        while self.count >= 8:
            self.out.append(self.value & 255)
            self.value >>= 8
            self.count -= 8


def webp_of_prefix_codes(side: int = 1024) -> bytes:
    """Return a small lossless WebP with 65,536 groups of prefix codes, one per 4 x 4 pixels."""
    bits = _Bits()

    def one_symbol(symbol: int) -> None:
        for value, count in ((1, 1), (0, 1), (1, 1), (symbol, 8)):
            bits.put(value, count)

    def all_symbols(alphabet: int) -> None:
        """Write 256 symbols of 8 bits each."""
        bits.put(0, 1)
        bits.put(15, 4)
        for length in (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15):
            bits.put(int(length in {0, 8}), 3)
        bits.put(0, 1)
        for symbol in range(alphabet):
            bits.put(int(symbol < 256), 1)

    for value, count in ((0x2F, 8), (side - 1, 14), (side - 1, 14), (0, 5), (23, 5), (1, 1), (0, 3), (0, 1)):
        bits.put(value, count)
    all_symbols(280)
    all_symbols(256)
    for symbol in (0, 255, 0):
        one_symbol(symbol)
    groups = (side // 4) ** 2
    for group in range(groups):
        for byte in (group & 255, group >> 8 & 255):
            bits.put(int(f"{byte:08b}"[::-1], 2), 8)
    for _ in range(5 * groups):
        one_symbol(0)
    bits.put(0, 64)
    data = bytes(bits.out)
    body = b"WEBPVP8L" + len(data).to_bytes(4, "little") + data + bytes(len(data) % 2)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def gif_frame(width: int, height: int, disposal: int = 2) -> bytes:
    """Return a GIF whose first frame declares this size."""
    content = bytearray(encoded(Image.new("P", (8, 8)), "GIF", transparency=0, disposal=disposal))
    at = content.index(b"\x21\xf9") + 8
    content[at + 5 : at + 9] = struct.pack("<HH", width, height)
    return bytes(content)


def gif_of_comments(blocks: int) -> bytes:
    content = encoded(Image.fromarray(pixels()).convert("P"), "GIF")
    at = 13 + (3 << (content[10] & 7) + 1)
    return content[:at] + b"\x21\xfe" + b"\x01x" * blocks + b"\0" + content[at:]


def bmp_of_runs(width: int, height: int, runs: bytes) -> bytes:
    """Return a run-length encoded BMP."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    start = 14 + len(header) + 1024
    return b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start) + header + bytes(1024) + runs


def tiff(
    strips: list[bytes],
    *,
    width: int,
    height: int,
    rows: int,
    bits: int = 8,
    samples: int = 1,
    compression: int = 1,
    shared: int = 0,
    tags: Iterable[tuple[int, int, int, int]] = (),
) -> bytes:
    """Return a little-endian TIFF.

    `shared` additional strips reuse the bytes of the last one. `tags` are (tag, type, count, value).
    """
    offsets = [8 + sum(map(len, strips[:i])) for i in range(len(strips))]
    body = b"".join(strips)
    offsets += offsets[-1:] * shared
    lengths = [*map(len, strips), *([len(strips[-1])] * shared)]
    count = len(offsets)
    at = 8 + len(body)
    tail = struct.pack(f"<{2 * count}I", *offsets, *lengths) + struct.pack(f"<{samples}H", *[bits] * samples)
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, samples, at + 8 * count if samples > 2 else bits),
        (259, 3, 1, compression),
        (262, 3, 1, 2 if samples > 2 else 1),
        (273, 4, count, at if count > 1 else offsets[0]),
        (277, 3, 1, samples),
        (278, 4, 1, rows),
        (279, 4, count, at + 4 * count if count > 1 else lengths[0]),
        *tags,
    ]
    rows_of_tags = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    start = struct.pack("<I", at + len(tail))
    return b"II*\0" + start + body + tail + struct.pack("<H", len(entries)) + rows_of_tags + bytes(4)


@cache
def flat_webp(side: int) -> bytes:
    """Return about 50 bytes that unpack to four bytes per pixel."""
    return encoded(Image.new("RGBA", (side, side), (1, 2, 3, 4)), "WEBP", lossless=True, method=0)


@cache
def tiff_of_jpegs(scans: int, side: int) -> bytes:
    """Return a TIFF whose strips all are the same grey progressive JPEG with `scans` scans.

    libtiff accepts 100 scans per strip, and strips for which libjpeg needs less than 10 MB.
    """
    rows = min(400, side) // 8 * 8
    strip = jpeg_of_scans(scans, side, rows)
    strips = side // rows
    return tiff([strip], width=side, height=strips * rows, rows=rows, compression=7, shared=strips - 1)


FORMATS = ("JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP")


@cache
def honest(kind: str, side: int) -> bytes:
    """Return smooth shades on `side` x `side` pixels: the minimum cost of an image of this size."""
    image = Image.fromarray(pixels(1, side, side))
    if kind == "BMP":
        return encoded(image.convert("1"), kind)
    options: dict[str, dict[str, object]] = {
        "JPEG": {"progressive": True, "subsampling": 0},
        "PNG": {"compress_level": 1},
        "WebP": {"lossless": True, "method": 0, "quality": 0},
        "TIFF": {"compression": "tiff_adobe_deflate"},
    }
    return encoded(image.quantize(16) if kind == "GIF" else image, kind.upper(), **options.get(kind, {}))
