"""The real command under real signals: no image is lost or overwritten, and the work can be ended."""

import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clipcite import Job
from tests.clipcite.sorting.sorted_folder import state
from tests.service.running import Service

IMAGES = 120
SIGNALS = (signal.SIGINT, signal.SIGKILL)


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """Return an empty folder on another file system than `tmp_path`."""
    for place in ("/dev/shm", "/var/tmp"):
        if Path(place).is_dir() and Path(place).stat().st_dev != tmp_path.stat().st_dev:
            with tempfile.TemporaryDirectory(dir=place) as folder:
                yield Path(folder)
            return
    pytest.skip("there is one file system only")


def interrupt(
    service: Service, arguments: Sequence[object], by: signal.Signals, ready: Callable[[], bool]
) -> None:
    """Run the command, and send it a signal when it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "clipcite.cli.main", *map(str, arguments)],
        env={**os.environ, "CLIPCITE_URL": service.url},
        stdin=subprocess.DEVNULL,
    )
    while process.poll() is None and not ready():
        continue  # a pause would miss the moment
    process.send_signal(by)
    assert process.wait() in {0, 1, 130, -by}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["copy", "link", "move", "move across"])
def test_interruptions(
    service: Service, call: Any, taught: Job, tmp_path: Path, how: str, request: pytest.FixtureRequest
) -> None:
    """Sorts and undoings are interrupted in turn, after a random number of images."""
    folder, into = tmp_path / "photos", tmp_path / "sorted"
    if how == "move across":
        into = request.getfixturevalue("other_disk") / "sorted"
    draw = random.Random(how)
    for number in range(IMAGES):
        path = folder / f"{number % 2}" / f"{number // 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 80, 40)).save(path)
        path.write_bytes(path.read_bytes() + draw.randbytes(50_000))
    mine = {"red/0.png": b"mine 1", "green/1.png": b"mine 2"}
    for name, content in mine.items():
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        (into / name).write_bytes(content)
    before, untouched = state(folder), state(into)
    options = ("-m", taught.model_id, "--into", into, "--unsure", 0, f"--{how.split()[0]}")
    call("sort", folder, *options, status=1)  # the answers
    (log,) = into.glob("*.jsonl")
    command, undoing = ("sort", folder, *options, "--yes"), ("sort", "--undo", log)

    def arrived() -> int:
        folders = os.walk(into)  # passes over those that are removed meanwhile
        return sum(len(files) for path, _, files in folders if path != str(into)) - len(mine)

    def interrupted(by: signal.Signals, some: int, *, finished: bool) -> None:
        interrupt(service, command, by, lambda: arrived() > some)
        assert set(before.values()) <= {*state(folder).values(), *state(into).values()}
        if finished:
            if state(folder):  # else the signal came after the last image
                call(*command)
            assert arrived() == IMAGES
            interrupt(service, undoing, by, lambda: arrived() < some)
            assert set(before.values()) <= {*state(folder).values(), *state(into).values()}
        call(*undoing)
        assert (state(folder), state(into)) == (before, untouched)

    for turn in range(6):
        interrupted(SIGNALS[turn % 2], draw.randrange(IMAGES), finished=turn % 3 > 0)
