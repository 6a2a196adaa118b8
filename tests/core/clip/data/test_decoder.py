"""Decoder processes: the same images, no files, and a fault that costs one image only."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from core.clip.data import decoder
from core.clip.data.decoder import CPU_SECONDS, Decoder, MoreRoom
from core.clip.data.header import ImageLimits
from core.clip.data.images import OpenOptions, open_image
from core.clip.errors import BadImage
from tests.api import crafted
from tests.service.running import wait_for

LIMITS = ImageLimits()
WHOLE = 1_000_000_000
SECRET = "the key of the operator"


@pytest.fixture(scope="module")
def process() -> Iterator[Decoder]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPCITE_ADMIN_KEY", SECRET)
        made = Decoder()
    yield made
    assert made.is_alive()  # no image of these tests was fatal
    made.kill()


def decoded(process: Decoder, source: bytes, room: int = WHOLE, **how: Any) -> Image.Image:
    options: OpenOptions = {"shortest_side": 64, **how}
    return Image.fromarray(process.decode(source, LIMITS, room, options))


def images() -> Iterator[tuple[str, bytes]]:
    modes = {
        "JPEG": ("L", "RGB", "CMYK"),
        "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
        "WEBP": ("RGB", "RGBA"),
        "GIF": ("L", "P", "RGB"),
        "BMP": ("1", "L", "P", "RGB"),
        "HEIF": ("L", "RGB", "RGBA"),
        "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"),
    }
    noise = Image.effect_noise((150, 90), 90)
    for kind, names in modes.items():
        for mode in names:
            image = noise.convert("I" if mode in {"I;16", "I", "F"} else "RGB")
            options = [{"compression": "tiff_lzw"}, {"compression": "jpeg"}] if kind == "TIFF" else [{}]
            for option in options if mode in {"L", "RGB"} else options[:1]:
                yield f"{kind} {mode} {option}", crafted.encoded(image.convert(mode), kind, **option)
    turned = Image.Exif()
    turned[274] = 6
    yield "turned", crafted.encoded(noise.convert("RGB"), "JPEG", exif=turned)
    yield "progressive", crafted.encoded(noise.convert("RGB"), "JPEG", progressive=True)
    for kind in crafted.FORMATS:
        yield f"{kind} honest", crafted.honest(kind, 300)


def outcome(decode: Callable[[], Image.Image]) -> object:
    try:
        image = decode()
    except BadImage as bad:
        return bad.code, bad.detail
    return image.mode, image.size, image.tobytes()


@pytest.mark.parametrize("grey", [False, True])
def test_every_kind_of_image_is_the_same_as_in_this_process(process: Decoder, grey: bool) -> None:
    for name, source in images():
        expected = outcome(lambda source=source: open_image(source, LIMITS, shortest_side=64, grey=grey))
        assert isinstance(expected, tuple)
        assert len(expected) == 3, (name, expected)
        assert outcome(lambda source=source: decoded(process, source, grey=grey)) == expected, name


def test_so_is_every_refusal(process: Decoder) -> None:
    for source in (
        b"no image",
        crafted.jpeg()[:200],
        crafted.jpeg_of_scans(101, 64),
        crafted.encoded(Image.new("L", (3, 3)), "PNG"),
        crafted.encoded(Image.new("1", (7_000, 7_000)), "PNG"),
    ):
        expected = outcome(lambda source=source: open_image(source, LIMITS, shortest_side=64))
        assert outcome(lambda source=source: decoded(process, source)) == expected


@pytest.mark.parametrize("kind", ["PNG", "WebP"])
def test_an_image_that_needs_more_memory_says_so(process: Decoder, kind: str) -> None:
    source = crafted.honest(kind, 1_000)
    with pytest.raises(MoreRoom) as more:
        decoded(process, source, room=1_000)
    assert 20_000_000 <= more.value.room < 30_000_000
    assert decoded(process, source, room=more.value.room).size == (64, 64)


def test_memory_that_no_header_tells_is_limited(process: Decoder) -> None:
    """The tables of this file take 400 MB."""
    source = crafted.webp_of_prefix_codes(1_024)
    with pytest.raises(MoreRoom) as more:
        decoded(process, source, room=64 * 1024 * 1024)
    assert more.value.room >= 20 * LIMITS.max_pixels


SLOW: dict[str, Callable[[], bytes]] = {
    "header": lambda: crafted.jpeg_of_exif_parts(800_000),
    "pixels": lambda: crafted.bmp_of_runs(1_000, 1_000, b"\1\5" * 9_900_000 + b"\0\1"),
}
"""Files that take several times CPU_SECONDS, in their header or in their pixels."""


@pytest.mark.parametrize("part", SLOW)
def test_cpu_time_is_limited(part: str) -> None:
    process = Decoder()
    ended = sum(psutil.Process().cpu_times()[2:4])
    before = ended + sum(psutil.Process(process.pid).cpu_times()[:2])
    with pytest.raises(BadImage) as bad:
        decoded(process, SLOW[part]())
    assert bad.value.code == "image_too_costly"
    assert "too long" in bad.value.detail
    assert not process.is_alive()
    assert sum(psutil.Process().cpu_times()[2:4]) - before < 2 * CPU_SECONDS  # of the ended children


def test_the_process_can_open_no_file_and_has_no_secret_and_no_torch(process: Decoder) -> None:
    decoded(process, crafted.jpeg())
    there = Path(f"/proc/{process.pid}")
    limits = {line[:26].strip(): line[26:47].strip() for line in (there / "limits").read_text().splitlines()}
    assert (limits["Max open files"], limits["Max core file size"]) == ("0", "0")
    assert "CLIPCITE" not in (there / "environ").read_text()
    assert SECRET not in (there / "environ").read_text()
    assert "torch" not in (there / "maps").read_text()


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGSEGV, "truncated_image"), (signal.SIGSTOP, "image_too_costly")]
)
@pytest.mark.parametrize("size", [100, 3_000_000])  # the larger one does not fit into the link
def test_a_crash_or_a_hang_fails_one_image(
    signum: signal.Signals, code: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "SECONDS", 1.0)
    process = Decoder()
    os.kill(process.pid, signum)
    with pytest.raises(BadImage) as bad:
        decoded(process, crafted.jpeg() + bytes(size))
    assert bad.value.code == code
    assert not process.is_alive()


@pytest.mark.parametrize(
    "forged", [{"mode": "L", "size": [30_000, 30_000]}, {"mode": "L", "size": [-1, -1]}, ["L"], {"room": "x"}]
)
def test_a_forged_answer_takes_no_memory(forged: object, monkeypatch: pytest.MonkeyPatch) -> None:
    process = Decoder()
    monkeypatch.setattr("json.loads", lambda answer: forged)
    monkeypatch.setattr("numpy.frombuffer", lambda *given: pytest.fail("memory was read"))
    with pytest.raises(BadImage) as bad:
        decoded(process, crafted.jpeg())
    assert "failed badly" in bad.value.detail
    assert not process.is_alive()


def test_the_process_ends_with_its_parent() -> None:
    script = (
        "import os; from core.clip.data.decoder import Decoder\n"
        "print(Decoder().pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    wait_for(lambda: not psutil.pid_exists(int(done.stdout)))
    assert done.stderr == ""


def test_a_memory_limit_ends_with_its_image(process: Decoder) -> None:
    """The next file arrives before its own limit is set."""
    with pytest.raises(MoreRoom):
        decoded(process, crafted.honest("PNG", 1_000), room=1_000)
    large = crafted.jpeg() + bytes(150_000_000)
    limits = ImageLimits(max_bytes=200_000_000)
    assert process.decode(large, limits, WHOLE, {"shortest_side": 20}).shape == (27, 20, 3)
