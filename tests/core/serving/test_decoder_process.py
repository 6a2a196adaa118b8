"""Decoder processes: the same images, no rights, and a fault that costs one image only."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from core.admission import ServerBusy
from core.clip.data.decoder import MEMORY_BYTES
from core.clip.data.images import ImageLimits, open_image
from core.clip.errors import BadImage
from core.serving import decoder_process
from core.serving.decoder_process import DecoderProcess, TooLarge
from core.serving.decoding import Decoders, Decoding
from tests.api import crafted

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the processes need Linux")
LIMITS = ImageLimits()
GUARD = 600
SECRET = "the key of the operator"


def anything(peak_bytes: int) -> AbstractContextManager[None]:
    return nullcontext()


@pytest.fixture(scope="module")
def process() -> Iterator[DecoderProcess]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPCITE_ADMIN_KEY", SECRET)
        made = DecoderProcess()
    yield made
    assert made.is_alive()  # no image of these tests was fatal
    made.kill()


def decoded(process: DecoderProcess, source: bytes, **given: Any) -> Image.Image:
    options = {"shortest_side": 64, "grey": False, "small_bytes": 0, "seconds": GUARD, **given}
    return process.decode(source, LIMITS, options.pop("hold", anything), **options)[0]


def images() -> Iterator[tuple[str, bytes]]:
    modes = {
        "JPEG": ("L", "RGB", "CMYK"),
        "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
        "WEBP": ("RGB", "RGBA"),
        "GIF": ("L", "P", "RGB"),
        "BMP": ("1", "L", "P", "RGB"),
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
        b"",
        b"no image",
        crafted.jpeg()[:200],
        crafted.jpeg_of_scans(101, 64),
        crafted.encoded(Image.new("L", (3, 3)), "PNG"),
        crafted.encoded(Image.new("1", (7_000, 7_000)), "PNG"),
        bytes(LIMITS.max_bytes + 1),
    ):
        expected = outcome(lambda source=source: open_image(source, LIMITS, shortest_side=64))
        assert outcome(lambda source=source: decoded(process, source)) == expected


def test_a_large_image_waits_for_memory_or_is_turned_away(process: DecoderProcess) -> None:
    asked: list[int] = []

    def hold(peak_bytes: int) -> AbstractContextManager[None]:
        asked.append(peak_bytes)
        return nullcontext()

    source = crafted.encoded(Image.new("RGB", (1_000, 1_000)), "PNG")
    assert decoded(process, source, hold=hold, small_bytes=100_000_000).size == (64, 64)
    assert asked == []
    assert decoded(process, source, hold=hold, small_bytes=1_000).size == (64, 64)
    assert 3_000_000 < asked[0] < 20_000_000

    def refuse(peak_bytes: int) -> AbstractContextManager[None]:
        raise TooLarge

    with pytest.raises(TooLarge):
        decoded(process, source, hold=refuse)
    assert decoded(process, source).size == (64, 64)


def test_the_process_has_no_rights_no_secret_and_no_torch(process: DecoderProcess) -> None:
    decoded(process, crafted.jpeg())
    there = Path(f"/proc/{process.pid}")
    limits = {line[:26].strip(): line[26:47].strip() for line in (there / "limits").read_text().splitlines()}
    assert (limits["Max open files"], limits["Max processes"], limits["Max core file size"]) == (
        "0",
        "0",
        "0",
    )
    assert int(limits["Max cpu time"]) <= GUARD + 60
    assert int(limits["Max address space"]) < 4_000_000_000
    status = dict(line.split(":\t", 1) for line in (there / "status").read_text().splitlines())
    assert status["NoNewPrivs"].strip() == "1"
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

    def hit(peak_bytes: int) -> AbstractContextManager[None]:
        os.kill(process.pid, signum)
        return nullcontext()

    with pytest.raises(BadImage) as bad:
        decoded(process, crafted.jpeg(), hold=hit, seconds=20 if signum == signal.SIGSEGV else 0.3)
    assert bad.value.code == code
    assert not process.is_alive()


def test_a_forged_answer_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    process, source = DecoderProcess(), crafted.jpeg()
    forged = {"mode": "L", "size": [30_000, 30_000], "seconds": 0.0}
    monkeypatch.setattr(process, "_ask", lambda **message: forged)
    monkeypatch.setattr(Image, "frombytes", lambda *given: pytest.fail("memory was allocated"))
    with pytest.raises(BadImage) as bad:
        decoded(process, source)
    assert bad.value.code == "truncated_image"
    assert not process.is_alive()


def test_the_others_are_answered_and_the_process_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = DecoderProcess.decode
    deadly = crafted.jpeg(7)
    hit: list[int] = []

    def fragile(process: DecoderProcess, source: bytes, *args: Any, **options: Any) -> Any:
        if source == deadly:
            hit.append(process.pid)
            os.kill(process.pid, signal.SIGKILL)
        return decode(process, source, *args, **options)

    monkeypatch.setattr(DecoderProcess, "decode", fragile)

    def work(source: bytes, decoding: Decoding[Image.Image]) -> Image.Image:
        return decoding.open_image(source, LIMITS, shortest_side=20)

    decoders = Decoders(2, 512_000_000)
    sources = [crafted.jpeg(1), deadly, crafted.jpeg(2), deadly, crafted.jpeg(3)]
    decodings = decoders.submit(("ana", "classify"), object(), [partial(work, s) for s in sources])
    found = [outcome(decoding.result) for decoding in decodings]
    expected = [outcome(lambda s=s: open_image(s, LIMITS, shortest_side=20)) for s in sources]
    crashed = ("truncated_image", decoder_process.CRASHED)
    assert found == [expected[0], crashed, expected[2], crashed, expected[4]]
    assert len(set(hit)) == 2
    decoders.close()


def test_the_process_ends_with_its_parent() -> None:
    script = (
        "import os; from core.serving import decoder_process as d; d.start(1)\n"
        "print(d._idle[0].pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    until = time.monotonic() + GUARD
    while psutil.pid_exists(int(done.stdout)):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_large_images_leave_no_shared_memory_behind(process: DecoderProcess) -> None:
    def shared() -> int:
        return int(psutil.Process(process.pid).memory_info().shared)

    decoded(process, crafted.jpeg())
    before = shared()
    source = crafted.encoded(Image.effect_noise((1_900, 1_900), 90).convert("RGB"), "PNG")
    assert 8_000_000 < len(source) < LIMITS.max_bytes
    decoded(process, source, shortest_side=2_000)
    assert shared() < before + 4_000_000


def test_a_process_that_does_not_start_is_no_fault_of_the_image(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(decoder_process, "_idle", [])
    monkeypatch.setattr(decoder_process, "_environment", dict)  # finds no modules of the service
    with pytest.raises(ServerBusy, match="Try again"):
        decoder_process.decode(
            crafted.jpeg(), LIMITS, anything, shortest_side=20, grey=False, small_bytes=0, seconds=GUARD
        )
    assert "it has ended with status 1" in caplog.text


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
