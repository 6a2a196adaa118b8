"""Decoder processes: the same images, no rights, and a fault that costs one image only."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from core.clip.data.decoder import CPU_SECONDS, MEMORY_BYTES
from core.clip.data.decoder_process import DecoderProcess, MoreRoom
from core.clip.data.header import ImageLimits
from core.clip.data.images import open_image
from core.clip.errors import BadImage
from tests.api import crafted
from tests.service.running import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the processes need Linux")
LIMITS = ImageLimits()
GUARD = 600
WHOLE = 1_000_000_000
SECRET = "the key of the operator"


@pytest.fixture(scope="module")
def process() -> Iterator[DecoderProcess]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPCITE_ADMIN_KEY", SECRET)
        made = DecoderProcess()
    yield made
    assert made.is_alive()  # no image of these tests was fatal
    made.kill()


def decoded(process: DecoderProcess, source: bytes, **given: Any) -> Image.Image:
    options = {"shortest_side": 64, "grey": False, "fit": None, "room": WHOLE, **given}
    process.begin(source, LIMITS, options.pop("room"), **options)
    return Image.fromarray(process.finish(GUARD))


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
def test_every_kind_of_image_is_the_same_as_in_this_process(process: DecoderProcess, grey: bool) -> None:
    for name, source in images():
        expected = outcome(lambda source=source: open_image(source, LIMITS, shortest_side=64, grey=grey))
        assert isinstance(expected, tuple)
        assert len(expected) == 3, (name, expected)
        assert outcome(lambda source=source: decoded(process, source, grey=grey)) == expected, name


def test_so_is_every_refusal(process: DecoderProcess) -> None:
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
def test_an_image_that_needs_more_memory_says_so(process: DecoderProcess, kind: str) -> None:
    source = crafted.honest(kind, 1_000)
    with pytest.raises(MoreRoom) as more:
        decoded(process, source, room=1_000)
    assert 20_000_000 <= more.value.room < 30_000_000
    assert decoded(process, source, room=more.value.room).size == (64, 64)


def test_memory_that_no_header_tells_is_limited(process: DecoderProcess) -> None:
    """The tables of this file take 400 MB."""
    source = crafted.webp_of_prefix_codes(1_024)
    with pytest.raises(MoreRoom) as more:
        decoded(process, source, room=64 * 1024 * 1024)
    assert more.value.room >= 20 * LIMITS.max_pixels


def test_cpu_time_is_limited() -> None:
    process = DecoderProcess()
    before = psutil.Process().cpu_times()
    start = sum(psutil.Process(process.pid).cpu_times()[:2])
    with pytest.raises(BadImage) as bad:
        decoded(process, crafted.bmp_of_runs(1_000, 1_000, b"\1\5" * 9_900_000 + b"\0\1"))
    after = psutil.Process().cpu_times()
    assert bad.value.code == "image_too_costly"
    assert "too long" in bad.value.detail
    assert not process.is_alive()
    used = sum(after[2:4]) - sum(before[2:4]) - start  # of the children that have ended
    assert used < 2 * CPU_SECONDS


def test_the_process_has_no_rights_no_secret_and_no_torch(process: DecoderProcess) -> None:
    decoded(process, crafted.jpeg())
    there = Path(f"/proc/{process.pid}")
    limits = {line[:26].strip(): line[26:47].strip() for line in (there / "limits").read_text().splitlines()}
    assert (limits["Max open files"], limits["Max core file size"]) == ("0", "0")
    assert int(limits["Max address space"]) < 4_000_000_000
    status = dict(line.split(":\t", 1) for line in (there / "status").read_text().splitlines())
    assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")
    assert "0" not in status["Uid"].split()
    assert int(status["CapEff"], 16) == 0
    assert "CLIPCITE" not in (there / "environ").read_text()
    assert SECRET not in (there / "environ").read_text()
    assert "torch" not in (there / "maps").read_text()


def test_a_taken_over_process_opens_nothing() -> None:
    script = """
        import os, socket
        from core.clip.data.decoder import give_up_rights
        give_up_rights(os.getppid())
        def refused(attempt):
            try:
                attempt()
            except OSError:
                return True
        attempts = [
            lambda: open("/etc/hostname"), lambda: os.open("/proc/self/environ", 0), os.fork, os.pipe,
            lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM), lambda: os.listdir("/"),
            lambda: socket.socketpair(), lambda: os.memfd_create("x"), lambda: os.setuid(0),
            lambda: os.kill(os.getppid(), 0) if os.getuid() == 65534 else os.fork(),
        ]
        os.write(1, str([refused(attempt) for attempt in attempts]).encode())
    """
    lines = "\n".join(line.removeprefix(" " * 8) for line in script.splitlines())
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert done.stdout == str([True] * 10), done.stderr


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGSEGV, "truncated_image"), (signal.SIGSTOP, "image_too_costly")]
)
def test_a_crash_or_a_hang_fails_one_image(signum: signal.Signals, code: str) -> None:
    process = DecoderProcess()
    os.kill(process.pid, signum)
    process.begin(crafted.jpeg(), LIMITS, WHOLE, shortest_side=64, grey=False, fit=None)
    with pytest.raises(BadImage) as bad:
        process.finish(20 if signum == signal.SIGSEGV else 0.3)
    assert bad.value.code == code
    assert not process.is_alive()


@pytest.mark.parametrize(
    "forged", [{"mode": "L", "size": [30_000, 30_000]}, {"mode": "L", "size": [-1, -1]}, ["L"], {"room": "x"}]
)
def test_a_forged_answer_takes_no_memory(forged: object, monkeypatch: pytest.MonkeyPatch) -> None:
    process = DecoderProcess()
    monkeypatch.setattr("json.loads", lambda answer: forged)
    monkeypatch.setattr(np, "frombuffer", lambda *given: pytest.fail("memory was read"))
    with pytest.raises(BadImage) as bad:
        decoded(process, crafted.jpeg())
    assert "failed badly" in bad.value.detail
    assert not process.is_alive()


def test_the_process_ends_with_its_parent() -> None:
    script = (
        "import os; from core.clip.data.decoder_process import DecoderProcess\n"
        "print(DecoderProcess.start().pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    wait_for(lambda: not psutil.pid_exists(int(done.stdout)))


def test_large_images_leave_no_shared_memory_behind(process: DecoderProcess) -> None:
    def shared() -> int:
        return int(psutil.Process(process.pid).memory_info().shared)

    decoded(process, crafted.jpeg())
    before = shared()
    source = crafted.encoded(Image.effect_noise((1_900, 1_900), 90).convert("RGB"), "PNG")
    assert 8_000_000 < len(source) < LIMITS.max_bytes
    decoded(process, source, shortest_side=2_000)
    assert shared() < before + 4_000_000


def test_a_decoder_whose_service_has_ended_is_silent() -> None:
    memory = os.memfd_create("image")
    os.ftruncate(memory, MEMORY_BYTES)
    link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link.close()
    ended = subprocess.run(
        [sys.executable, "-m", "core.clip.data.decoder"]
        + [str(number) for number in (theirs.fileno(), memory, os.getpid())],
        pass_fds=(theirs.fileno(), memory),
        capture_output=True,
        text=True,
        check=False,
    )
    os.close(memory)
    assert (ended.returncode, ended.stderr) == (0, "")
