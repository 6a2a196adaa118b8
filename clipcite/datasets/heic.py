"""Conversion of HEIC images to JPEG, which every service reads.

The file structure (ISO/IEC 14496-12 and 23008-12) is checked first, so that a small file cannot cause much
work: the decoder itself allows a thousand million pixels, and any reuse of the same bytes.
"""

import io
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from clipcite.client.errors import InvalidImages

HEIC_ENDINGS = frozenset({".heic", ".heif"})
QUALITY = 95
MAX_BYTES = 50_000_000
MAX_PIXELS = 100_000_000
"""Maximum pixels: twice those of the largest phone images."""
MAX_ITEMS = 1_000
"""Maximum tiles, thumbnails and metadata items. An image of 100 million pixels has 400 tiles."""
MAX_READ = 3
"""Maximum bytes that the decoder reads, as a multiple of the file size."""
_IMAGES = frozenset({b"hvc1", b"grid"})
_COMBINED = frozenset({b"iovl", b"iden"})
"""Overlays and derived images, which no camera writes."""


class _Costly(Exception):
    """A structure that costs more work than its size suggests."""


def jpeg_of_heic() -> Callable[[Path], bytes]:
    """Return a function that converts a HEIC file to JPEG.

    Raises:
        InvalidImages: pillow-heif is not installed.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise InvalidImages(
            "HEIC images need another package: pip install pillow-heif. Or export the images as JPEG."
        ) from error

    def convert(path: Path) -> bytes:
        try:
            size = path.stat().st_size
            if size > MAX_BYTES:
                raise _Costly(f"has {size:,} bytes; the maximum is {MAX_BYTES:,}")
            data = path.read_bytes()
            _check_structure(data)
            heic = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
            if not len(heic):
                raise ValueError("no image that can be decoded")
            width, height = heic.size
            if width * height > MAX_PIXELS:
                raise _Costly(f"has {width:,} x {height:,} pixels; the maximum is {MAX_PIXELS:,}")
            # The decoder applies the rotation in the file, so the image is upright.
            image = heic.to_pillow().convert("RGB")
        except _Costly as error:
            raise InvalidImages(f"{path} {error}. Export it as a smaller JPEG.") from error
        except (ValueError, OSError, EOFError, SyntaxError, RuntimeError, struct.error, IndexError) as error:
            raise InvalidImages(
                f"{path} is not a readable HEIC image ({str(error).strip()}). Export it as JPEG."
            ) from error
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=QUALITY)
        return buffer.getvalue()

    return convert


def _check_structure(data: bytes) -> None:
    """Bound the items and the bytes that the decoder reads.

    Raises:
        _Costly: more work than the size suggests.
        ValueError, struct.error: a damaged structure.
    """
    metas = [(start, end) for kind, start, end in _boxes(data, 0, len(data)) if kind == b"meta"]
    if len(metas) != 1:
        raise ValueError(f"{len(metas)} meta boxes instead of 1")
    boxes: dict[bytes, memoryview] = {}
    for kind, start, end in _boxes(data, metas[0][0] + 4, metas[0][1]):
        if kind in {b"iinf", b"iloc", b"iref", b"pitm"}:
            if kind in boxes:
                raise ValueError(f"two boxes {kind.decode()}")
            boxes[kind] = memoryview(data)[start:end]
    if not {b"iinf", b"iloc", b"pitm"} <= boxes.keys():
        raise ValueError("incomplete meta box")
    kinds = _item_kinds(boxes[b"iinf"])
    lengths = _item_lengths(boxes[b"iloc"], len(data))
    if max(len(kinds), len(lengths)) > MAX_ITEMS:
        raise _Costly(f"has more than {MAX_ITEMS:,} images and tiles")
    if _COMBINED & set(kinds.values()):
        raise _Costly("is composed of other images")
    pitm = boxes[b"pitm"]
    (primary,) = struct.unpack_from(">I" if pitm[0] else ">H", pitm, 4)
    if kinds.get(primary) not in _IMAGES:
        raise ValueError("not coded as HEVC")
    uses: Counter[int] = Counter()
    tiles: Counter[int] = Counter()
    for kind, source, targets in _references(boxes.get(b"iref")):
        if kind == b"dimg":
            tiles.update(targets)
        elif kind == b"cdsc":  # metadata, read once per image that it describes
            uses[source] += len(targets)
    if max(tiles.values(), default=1) > 1:
        raise _Costly("uses the same tile several times")
    if sum(length * max(1, uses[item]) for item, length in lengths.items()) > MAX_READ * len(data):
        raise _Costly("uses the same bytes for several images")


def _boxes(data: bytes | memoryview, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start, end) of the content of each box between two offsets.

    Raises:
        ValueError: a damaged or truncated box.
    """
    while at < end:
        size, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        elif size == 0:  # extends to the end
            size = end - at
        if at + size > end or start > at + size:
            raise ValueError("damaged or truncated")
        yield kind, start, at + size
        at += size


def _item_kinds(iinf: memoryview) -> dict[int, bytes]:
    """Return the type of each of the first MAX_ITEMS + 1 items, by item id."""
    kinds: dict[int, bytes] = {}
    for kind, start, _ in _boxes(iinf, 8 if iinf[0] else 6, len(iinf)):
        if kind == b"infe" and len(kinds) <= MAX_ITEMS:
            version = iinf[start]
            if version not in {2, 3}:
                raise ValueError("items without a type")
            item, name = struct.unpack_from(">H2x4s" if version == 2 else ">I2x4s", iinf, start + 4)
            if item in kinds:
                raise ValueError("two items with the same id")
            kinds[item] = name
    return kinds


def _item_lengths(iloc: memoryview, whole: int) -> dict[int, int]:
    """Return the bytes of each of the first MAX_ITEMS + 1 items, by item id. Length 0: the whole file."""
    version = iloc[0]
    offset_size, length_size = divmod(iloc[4], 16)
    base_size, index_size = divmod(iloc[5], 16)
    if not {offset_size, length_size, base_size, index_size} <= {0, 4, 8} or version > 2:
        raise ValueError("unreadable item locations")
    if version == 0:
        index_size = 0
    wide = version == 2
    (count,) = struct.unpack_from(">I" if wide else ">H", iloc, 6)
    at = 10 if wide else 8
    lengths: dict[int, int] = {}
    for _ in range(min(count, MAX_ITEMS + 1)):
        (item,) = struct.unpack_from(">I" if wide else ">H", iloc, at)
        at += (4 if wide else 2) + (2 if version else 0) + 2 + base_size
        (extents,) = struct.unpack_from(">H", iloc, at)
        at += 2
        each = index_size + offset_size + length_size
        total = 0
        if length_size:
            for start in range(at, at + extents * each, each):
                place = start + index_size + offset_size
                (length,) = struct.unpack_from(">Q" if length_size == 8 else ">I", iloc, place)
                total += length or whole
        else:
            total = extents * whole
        at += extents * each
        if item in lengths:
            raise ValueError("two locations for one item")
        lengths[item] = total
    return lengths


def _references(iref: memoryview | None) -> Iterator[tuple[bytes, int, tuple[int, ...]]]:
    """Yield (type, source, targets) of each reference between items."""
    if iref is None:
        return
    wide = iref[0] != 0
    for kind, start, _ in _boxes(iref, 4, len(iref)):
        source, count = struct.unpack_from(">IH" if wide else ">HH", iref, start)
        yield (
            kind,
            source,
            struct.unpack_from(f">{count}{'I' if wide else 'H'}", iref, start + (6 if wide else 4)),
        )
