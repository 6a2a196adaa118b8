"""Structure of image files: the parts that a decoder needs, and bounds on the decoding cost.

The structure is checked before a decoder opens the file. A few bytes can cost minutes of decoding: repeated
scans, metadata joined piece by piece, blocks that each take a Python step.
"""

import re
import struct
from dataclasses import dataclass
from typing import Any

from core.clip.errors import BadImage

MAX_SEGMENTS = 2_000
"""Maximum number of JPEG segments, before and after the first scan. 20 MB of metadata take about 300."""
MAX_CHUNKS = 20_000
"""Maximum number of PNG chunks. Files of 20 MB have about 3,000."""
MAX_FRAMES = 10_000
"""Maximum number of WebP frames, all of which the decoder lists."""
MAX_UNCOUNTED_SCANS = 16
"""Number of JPEG scans below which they are not counted exactly. libjpeg writes 1, 6 or 10, in CMYK 18."""
MAX_SCANS = 100
MAX_SCANNED_PIXELS = 1_000_000_000
"""Maximum of scans times pixels: 2.5 images of 40 million pixels with 10 scans."""
MAX_TIFF_STRIPS = 30_000
MAX_TIFF_TAGS = 1_000
MAX_TIFF_VALUES = 500_000
PREFIX_CODE_BYTES = 6_000
"""Size of libwebp's tables for one group of prefix codes in lossless WebP (bytes)."""
MAX_RLE_PIXELS = 1_000_000
"""Maximum number of pixels of a run-length coded BMP, which Pillow decodes in Python."""
MAX_RLE_BYTES = 500_000

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
"""End of a scan. Inside a scan, 0xFF is followed by 0 or belongs to a restart marker."""
_SOS, _EOI = 0xDA, 0xD9
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_PROGRESSIVE, _LOSSLESS = 0xC2, 0xC3
_ARITHMETIC = frozenset({0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_TABLES = frozenset({0xC4, 0xCC, 0xDB, 0xDD, 0xE0})
"""Huffman, arithmetic and quantisation tables, restart interval, JFIF."""
_TIFF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8}
_STRIPS, _ORIENTATION, _TILES = 273, 274, 324


class Malformed(Exception):
    """A file structure that can't be parsed."""


def too_costly(reason: str, remedy: str) -> BadImage:
    """Return the error `image_too_costly`."""
    return BadImage("image_too_costly", f"{reason}, which takes too long to read. {remedy}")


@dataclass(frozen=True)
class Jpeg:
    """The first image of a JPEG file."""

    data: bytes
    """The image without the metadata before its first scan."""
    coefficient_bytes: int
    """Memory for the coefficients of the whole image (bytes); 0 if decoded row by row."""
    scales: bool
    """True if the decoder can scale down while decoding."""
    exif: bytes | None
    xmp: bytes | None


def read_jpeg(data: bytes) -> Jpeg:
    """Parse the segments before the first scan, and count the scans.

    Raises:
        Malformed: the structure can't be parsed.
        BadImage: `image_too_costly`.
    """
    kept: list[bytes | memoryview] = [data[:2]]
    at = 2
    frame: bytes | None = None
    kind, exif, xmp = 0, None, None
    for _ in range(MAX_SEGMENTS):
        marker, at = _next_marker(data, at)
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # no parameters
            continue
        segment = data[at : at + _length(data, at)]
        if marker == _SOS:
            break
        at += len(segment)
        if marker in _FRAMES:
            if frame is not None or len(segment) < 8 + 3 * segment[7]:
                raise Malformed
            kind, frame = marker, segment
        elif marker == 0xE1 and segment.startswith(b"Exif\0\0", 2):
            exif = exif or segment[8:]
        elif marker == 0xE1 and segment.startswith(b"http://ns.adobe.com/xap/1.0/\0", 2):
            xmp = xmp or segment[31:]
        elif not (marker in _TABLES or (marker == 0xEE and segment.startswith(b"Adobe", 2))):
            if 0xE0 <= marker <= 0xEF or marker in {0xFE, 0xDC}:  # metadata
                continue
            raise Malformed
        if marker != 0xE1:
            kept += [b"\xff", bytes([marker]), segment]
    else:
        raise too_costly(
            f"The JPEG file has more than {MAX_SEGMENTS:,} segments", "Save it as baseline JPEG."
        )
    if frame is None or len(segment) < 3:
        raise Malformed
    if kind in _ARITHMETIC:
        raise too_costly("The JPEG file is arithmetically coded", "Save it as baseline JPEG.")
    height, width = struct.unpack(">HH", frame[3:7])
    # libjpeg keeps the coefficients of the whole image unless one scan has all of them.
    buffered = kind == _PROGRESSIVE or segment[2] < frame[7]
    if buffered:
        _check_scans(data, at, width * height)
    sampling = [divmod(frame[i], 16) for i in range(9, 8 + 3 * frame[7], 3)]
    largest = max((h for h, _ in sampling), default=1) * max((v for _, v in sampling), default=1)
    samples = width * height * sum(h * v for h, v in sampling) // max(1, largest)
    kept += [b"\xff\xda", memoryview(data)[at:]]
    return Jpeg(b"".join(kept), 2 * samples if buffered else 0, kind != _LOSSLESS, exif, xmp)


def _next_marker(data: bytes, at: int) -> tuple[int, int]:
    """Return the next marker and the offset after it; bytes before the marker are skipped, as in decoders."""
    match = _MARKER.search(data, at)
    if match is None:
        raise Malformed
    return data[match.end() - 1], match.end()


def _length(data: bytes, at: int) -> int:
    length = int.from_bytes(data[at : at + 2], "big")
    if length < 2 or at + length > len(data):
        raise Malformed
    return length


def _check_scans(data: bytes, at: int, pixels: int) -> None:
    """Bound the number of scans.

    Args:
        at: offset of the length field in the first scan's header.
    """
    if data.count(b"\xff\xda", at) < MAX_UNCOUNTED_SCANS:  # an upper bound, 1,000 times as fast
        scans = MAX_UNCOUNTED_SCANS
    else:
        scans = 1
        at += _length(data, at)
        for _ in range(MAX_SEGMENTS):
            try:
                marker, at = _next_marker(data, at)
            except Malformed:  # truncated: left to the decoder
                break
            if marker == _EOI:
                break
            if marker == 0x01:
                continue
            scans += marker == _SOS
            if scans > MAX_SCANS:
                break
            at += _length(data, at)
        else:
            scans = MAX_SCANS + 1
    if scans > MAX_SCANS or (scans > MAX_UNCOUNTED_SCANS and scans * pixels > MAX_SCANNED_PIXELS):
        raise too_costly(
            f"The JPEG file has {'more than ' if scans > MAX_SCANS else ''}"
            f"{min(scans, MAX_SCANS)} scans over {pixels:,} pixels",
            "Save it as baseline JPEG.",
        )


def check_png(data: bytes) -> None:
    """Check the number of chunks.

    Raises:
        BadImage: `image_too_costly`.
    """
    at = 8
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data) or data[at + 4 : at + 8] == b"IEND":
            return
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    raise too_costly(f"The PNG file has more than {MAX_CHUNKS:,} chunks", "Export it again from its source.")


@dataclass(frozen=True)
class Gif:
    """The first frame of a GIF file."""

    data: bytes
    """The frame without preceding comments and other extensions."""
    width: int
    """Width of the canvas, or the right edge of the frame if larger (pixels)."""
    height: int
    """Height of the canvas, or the bottom edge of the frame if larger (pixels)."""


def read_gif(data: bytes) -> Gif:
    """Extract the first frame.

    Raises:
        Malformed: the structure can't be parsed.
    """
    if len(data) < 13:
        raise Malformed
    width, height = struct.unpack("<HH", data[6:10])
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    kept: list[bytes | memoryview] = [data[:at]]
    control = b""
    while at + 10 <= len(data):
        if data[at] == 0x2C:
            left, top, wide, high = struct.unpack("<HHHH", data[at + 1 : at + 9])
            kept += [control, memoryview(data)[at:]]
            return Gif(b"".join(kept), max(width, left + wide), max(height, top + high))
        if data[at] == 0x3B:
            raise Malformed
        start, at = at, at + 1
        if data[start] == 0x21:
            at += 1
            while at < len(data) and data[at]:
                at += 1 + data[at]
            at += 1
            if data[start + 1] == 0xF9 and data[start + 2] == 4:  # transparency of the frame
                # Set "no disposal": for other methods Pillow fills a second image on opening.
                control = (
                    data[start : start + 3] + bytes([data[start + 3] & 0b11100011]) + data[start + 4 : at]
                )
    raise Malformed


def check_webp(data: bytes) -> int:
    """Return an upper bound of the memory for the tables of a lossless image (bytes).

    Raises:
        BadImage: `image_too_costly`.
    """
    if data.count(b"ANMF") > MAX_FRAMES:
        raise too_costly(f"The WebP file has more than {MAX_FRAMES:,} frames", "Send its first frame alone.")
    # A group of five prefix codes takes at least 7 bytes of the file; there are at most 65,536.
    return min(len(data) // 7, 65_536) * PREFIX_CODE_BYTES if b"VP8L" in data else 0


def check_bmp(data: bytes) -> int:
    """Return an upper bound of the memory for one step of a run-length code (bytes).

    In Pillow 12 one step may skip 255 rows, even beyond the last row.

    Raises:
        BadImage: `image_too_costly`.
    """
    if len(data) < 34 or int.from_bytes(data[14:18], "little") < 40:
        return 0
    width, height = (abs(side) for side in struct.unpack("<ii", data[18:26]))
    run_length_coded = int.from_bytes(data[30:34], "little") in {1, 2}
    if run_length_coded and (width * height > MAX_RLE_PIXELS or len(data) > MAX_RLE_BYTES):
        raise too_costly(
            f"The BMP file is run-length coded and has more than {MAX_RLE_PIXELS:,} pixels or "
            f"{MAX_RLE_BYTES:,} bytes",
            "Save it as PNG.",
        )
    return 2 * 256 * width if run_length_coded else 0


def check_tiff(data: bytes) -> None:
    """Check the first directory. The content of the strips is left to `check_tiff_strips`.

    Raises:
        Malformed: the structure can't be parsed.
        BadImage: `image_too_costly`.
    """
    entries = _directory(data)
    sizes = [count * _TIFF_BYTES.get(kind, 0) for _, kind, count, _ in entries]
    outside = sum(size for size in sizes if size > 4)
    values = sum(count for _, kind, count, _ in entries if kind not in {1, 2, 6, 7})
    strips = max((count for tag, _, count, _ in entries if tag in {_STRIPS, _TILES}), default=0)
    if strips > MAX_TIFF_STRIPS:
        raise too_costly(
            f"The TIFF file has more than {MAX_TIFF_STRIPS:,} strips or tiles",
            "Export it again from its source.",
        )
    if len(entries) > MAX_TIFF_TAGS or outside > len(data) or values > MAX_TIFF_VALUES:
        raise too_costly(
            f"The TIFF file has {len(entries):,} tags with {values:,} values and {outside:,} bytes",
            "Export it again from its source.",
        )


def check_tiff_strips(data: bytes, tags: Any) -> None:
    """Check strips or tiles.

    Args:
        tags: `TiffImageFile.tag_v2`.

    Raises:
        BadImage: `image_too_costly`.
    """
    offsets = tags.get(_STRIPS) or tags.get(_TILES) or ()
    lengths = tags.get(279) or tags.get(325) or ()
    remedy = "Export it again from its source."
    if tags.get(259, 1) != 1 and sum(lengths) > 2 * len(data):
        raise too_costly("The TIFF file uses the same bytes for several strips or tiles", remedy)
    if tags.get(259, 1) == 7:
        for offset, length in zip(offsets, lengths, strict=False):
            end = offset + length
            if data.count(b"\xff\xda", offset, end) > MAX_UNCOUNTED_SCANS or any(
                data.find(bytes([0xFF, kind]), offset, end) >= 0 for kind in _ARITHMETIC
            ):
                raise too_costly("The TIFF file holds a JPEG of many scans", remedy)


def orientation(exif: bytes) -> int | None:
    """Return the orientation tag of an EXIF block, with or without its `Exif` prefix."""
    try:
        entries = _directory(exif.removeprefix(b"Exif\0\0"))
    except Malformed:
        return None
    return next(
        (value for tag, kind, count, value in entries if (tag, kind, count) == (_ORIENTATION, 3, 1)), None
    )


def _directory(data: bytes) -> list[tuple[int, int, int, int]]:
    """Return tag, type, count and first short of the value of each entry of the first directory.

    Raises:
        Malformed: the structure can't be parsed.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise Malformed
    big = data[2:4] in {b"\x2b\0", b"\0\x2b"}
    size, pad = (20, 6) if big else (12, 2)
    entry = struct.Struct(f"{order}HH{'Q' if big else 'L'}H{pad}x")
    try:
        (start,) = struct.unpack_from(order + ("Q" if big else "L"), data, 8 if big else 4)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
        start += 8 if big else 2
        count = min(count, 65_535, max(0, len(data) - start) // size)
        return list(entry.iter_unpack(data[start : start + count * size]))
    except (struct.error, OverflowError) as error:
        raise Malformed from error
