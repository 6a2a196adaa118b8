"""Files within the size limits that are refused before decoding, because decoding costs too much."""

import struct
import subprocess
import sys
import textwrap
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from core.clip.data.images import ImageLimits, open_image, read_header
from core.clip.data.structure import MAX_CHUNKS, MAX_FRAMES, MAX_SEGMENTS, MAX_TIFF_STRIPS
from core.clip.errors import BadImage
from tests.api import crafted

GREY = np.full((64, 64), 90, np.uint8)
STRIP = zlib.compress(np.random.default_rng(0).bytes(2_000))


def strips(count: int, **more: object) -> bytes:
    return crafted.tiff([STRIP] * count, width=64, height=count, rows=1, compression=8, **more)  # type: ignore[arg-type]


def jpeg_in_tiff(scans: int) -> bytes:
    return crafted.tiff([crafted.jpeg_of_scans(scans, 64)], width=64, height=64, rows=64, compression=7)


def claiming(jpeg: bytes, side: int) -> bytes:
    """Return a file whose header declares this size."""
    at = jpeg.index(b"\xff\xc2") + 5
    return jpeg[:at] + struct.pack(">HH", side, side) + jpeg[at + 4 :]


TOO_COSTLY = {
    "scans": crafted.jpeg_of_scans(101, 64),
    "scans of many pixels": claiming(crafted.jpeg_of_scans(30, 64), 6_000),
    "arithmetic": crafted.arithmetic_jpeg(),
    "exif parts": crafted.jpeg_of_exif_parts(MAX_SEGMENTS),
    "chunks": crafted.png_of_chunks(MAX_CHUNKS),
    "frames": crafted.webp_of_frames(MAX_FRAMES + 1),
    "run-length pixels": crafted.bmp_of_runs(2_000, 2_000, b"\1\5\0\0" * 2_000 + b"\0\1"),
    "run-length bytes": crafted.bmp_of_runs(1_000, 1_000, b"\1\5" * 300_000 + b"\0\1"),
    "strips": crafted.tiff([bytes(8)], width=8, height=1, rows=1, shared=MAX_TIFF_STRIPS),
    "shared strips": strips(64, shared=200),
    "tags": strips(64, tags=[(40_000 + i, 7, 10_000, 8) for i in range(20)]),
    "jpeg in tiff": jpeg_in_tiff(17),
    "arithmetic in tiff": crafted.tiff(
        [crafted.arithmetic_jpeg()], width=64, height=64, rows=64, compression=7
    ),
}
NEARLY = {
    "scans": crafted.jpeg_of_scans(100, 64),
    "scans of many pixels": crafted.jpeg_of_scans(16, 64),
    "exif parts": crafted.jpeg_of_exif_parts(MAX_SEGMENTS - 10),
    "chunks": crafted.png_of_chunks(MAX_CHUNKS - 10),
    "frames": crafted.webp_of_frames(MAX_FRAMES - 1),
    "run-length": crafted.bmp_of_runs(1_000, 1_000, (b"\1\5" * 200 + b"\0\0") * 1_000 + b"\0\1"),
    "strips": strips(64),
    "prefix codes": crafted.webp_of_prefix_codes(64),
    "comments": crafted.gif_of_comments(100_000),
}


@pytest.mark.parametrize("name", TOO_COSTLY)
def test_refused_before_decoding(name: str) -> None:
    with pytest.raises(BadImage) as caught:
        read_header(TOO_COSTLY[name])
    assert caught.value.code == "image_too_costly"
    assert any(caught.value.detail.endswith(f"{how}.") for how in ("JPEG", "PNG", "source", "alone"))


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
        read_header(content)
    with pytest.raises(BadImage, match="scans"):
        read_header(crafted.jpeg_of_scans(101, 64).replace(b"\xff\xda", b"\xff\xd0xx\xff\xda"))


def test_an_image_turned_by_its_xmp() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    content = crafted.encoded(Image.fromarray(crafted.pixels()), "JPEG", xmp=xmp)
    assert open_image(content).size == (40, 30)


def test_many_tags_of_an_exif_block_are_not_read() -> None:
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
            read_header(crafted.gif_frame(12_000, 9_000))
    assert caught.value.code == "too_many_pixels"


@pytest.mark.parametrize("mode", ["F", "I"])
def test_32_bits_have_a_limit_of_their_own(mode: str) -> None:
    for side, code in ((3_162, None), (3_163, "too_many_pixels")):
        content = crafted.encoded(Image.new(mode, (side, side)), "TIFF", compression="tiff_adobe_deflate")
        if code is None:
            assert read_header(content).image.size == (side, side)
            continue
        with pytest.raises(BadImage, match="32 bits") as caught:
            read_header(content)
        assert caught.value.code == code


def test_rows_of_a_deep_image_are_scaled_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.linspace(-5, 70_000, 64 * 64, dtype=np.float32).reshape(64, 64)
    content = crafted.encoded(Image.fromarray(values), "TIFF")
    whole = np.asarray(open_image(content))
    monkeypatch.setattr("core.clip.data.images.BAND_PIXELS", 200)
    assert np.array_equal(np.asarray(open_image(content)), whole)


SIDE = 1_200
MEASURE = """
    import sys, time
    from pathlib import Path
    from core.clip.errors import BadImage
    from core.clip.data.images import read_header
    def memory(name):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))
    def run(path):
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before, started, bound = memory("VmRSS"), time.process_time(), 0
        try:
            header = read_header(path, shortest_side=448)
            bound = header.peak_bytes
            header.decode()
        except BadImage as problem:
            assert problem.code == "image_too_costly", problem
        print(path.name, time.process_time() - started, bound, memory("VmHWM") - before)
    for path in sorted(Path(sys.argv[1]).glob("first*")):
        read_header(path, shortest_side=448).decode()
    for path in sorted(Path(sys.argv[1]).iterdir()):
        run(path)
"""


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[float, int, int]]:
    """Return per file (CPU seconds, memory bound, memory growth), decoded in a fresh process as for
    /classify.
    """
    folder = tmp_path_factory.mktemp("costs")
    for kind in crafted.FORMATS:
        (folder / f"first {kind}").write_bytes(crafted.honest(kind, 64))
        (folder / f"honest {kind}").write_bytes(crafted.honest(kind, SIDE))
        (folder / f"worst {kind}").write_bytes(crafted.worst(kind, SIDE))
    (folder / "skipping BMP").write_bytes(crafted.bmp_of_runs(240_000, 4, b"\0\2\xff\xff" + b"\0\1"))
    filled = crafted.jpeg()[:2] + b"\xff" * 30_000 + b"\0" + crafted.jpeg()[2:]
    (folder / "filled JPEG").write_bytes(filled)
    for name, content in TOO_COSTLY.items():
        (folder / f"refused {name}").write_bytes(content)
    command = [sys.executable, "-c", textwrap.dedent(MEASURE), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    found = {}
    for line in done.stdout.splitlines():
        name, taken, bound, grown = line.rsplit(" ", 3)
        found[name] = float(taken), int(bound), int(grown)
    return found


def at_the_limit(seconds: float) -> float:
    """Scale the seconds of an honest image to the maximum number of pixels."""
    return seconds * ImageLimits().max_pixels / SIDE**2


@pytest.mark.parametrize("kind", crafted.FORMATS)
def test_the_worst_file_of_a_format_is_bounded(kind: str, costs: dict[str, tuple[float, int, int]]) -> None:
    usual = costs[f"honest {kind}"][0]
    allowed = crafted.MULTIPLES[kind] * (at_the_limit(usual) if kind in crafted.OF_ANY_SIZE else usual)
    assert costs[f"worst {kind}"][0] <= allowed


@pytest.mark.parametrize("kind", crafted.FORMATS)
def test_the_memory_of_a_file_is_known_before_decoding(
    kind: str, costs: dict[str, tuple[float, int, int]]
) -> None:
    for name in ("honest", "worst"):
        _, bound, grown = costs[f"{name} {kind}"]
        assert grown <= 1.1 * bound + 4_000_000


def test_the_memory_of_skipped_rows_is_known_before_decoding(
    costs: dict[str, tuple[float, int, int]],
) -> None:
    """Pillow 12 allocates 61 MB for skipped rows, Pillow 13 almost nothing."""
    _, bound, grown = costs["skipping BMP"]
    assert bound > 2 * 255 * 240_000
    assert grown <= 1.1 * bound + 4_000_000


@pytest.mark.parametrize("name", TOO_COSTLY)
def test_a_refusal_costs_little(name: str, costs: dict[str, tuple[float, int, int]]) -> None:
    taken, _, grown = costs[f"refused {name}"]
    assert taken <= 0.1 * at_the_limit(costs["honest JPEG"][0])
    assert grown < 30_000_000


def test_fill_bytes_cost_little(costs: dict[str, tuple[float, int, int]]) -> None:
    assert costs["filled JPEG"][0] <= 0.1 * at_the_limit(costs["honest JPEG"][0])
