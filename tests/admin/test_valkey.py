"""The Valkey that `clipcite serve` starts in the data folder."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import psutil
import pytest

from admin import valkey
from core.errors import ExpectedError
from core.settings import Settings
from core.store.jobs import queue
from tests.service.running import wait_for


@contextmanager
def started(path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    process = valkey.start_first(path)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_folder_with_any_name(tmp_path: Path) -> None:
    data = tmp_path / "50% #1? ä@b"
    data.mkdir()
    settings = Settings(data=data)
    path = settings.valkey_socket()
    with started(path) as process:
        app = queue.make_celery(settings)
        queue.check(app)
        queue.send_adapt(app, "job_1")
        assert queue.waiting(app) == 1
        assert path.stat().st_mode & 0o777 == 0o700
        assert psutil.Process(process.pid).net_connections("inet") == []
        assert list(data.iterdir()) == [path]


def test_one_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with started(path) as left, started(path) as process:
        assert left.wait(60) == 0
        assert process.poll() is None


def test_it_ends_with_its_parent_even_when_that_is_killed(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from admin import valkey\n"
    code += "print(valkey.start_first(Path(sys.argv[1])).pid, flush=True); time.sleep(600)"
    parent = subprocess.Popen([sys.executable, "-c", code, tmp_path / "socket"], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout as said:
        process = psutil.Process(int(said.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("x" * valkey.MAX_PATH, "Choose a shorter --data"),
        ("absent/socket", "No such file.*CLIPCITE_REDIS_URL"),
    ],
)
def test_where_it_cannot_start_the_error_says_what_to_do(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(ExpectedError, match=says):
        valkey.start_first(tmp_path / name)


def test_without_its_package_a_server_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(queue, "files", absent)
    with pytest.raises(ExpectedError, match="set CLIPCITE_REDIS_URL to the URL of a Redis or Valkey server"):
        valkey.start_first(tmp_path / "socket")
    assert list(tmp_path.iterdir()) == []
