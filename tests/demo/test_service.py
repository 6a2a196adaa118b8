"""The demo's service over real HTTP, and the errors when it does not start."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen

import pytest

from demo.service import DemoFailed, Service, _environment


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Yield a factory of services whose process runs, or has ended with a status."""
    (tmp_path / "log").write_text("first line\nlast line\n")
    processes: list[Popen[bytes]] = []

    def make(url: str, status: int | None = None) -> Service:
        code = "import time; time.sleep(600)" if status is None else f"raise SystemExit({status})"
        processes.append(Popen([sys.executable, "-c", code]))
        if status is not None:
            processes[-1].wait()
        return Service(url, processes[-1], tmp_path / "log", "key")

    yield make
    for process in processes:
        process.kill()
        process.wait()


def test_service_that_ended(service: Callable[..., Service]) -> None:
    with pytest.raises(DemoFailed, match="exited with status 3") as failure:
        service("http://127.0.0.1:9", 3).wait_until_ready(seconds=5, backbone_seconds=5)
    assert "last line" in failure.value.advice


def test_a_service_set_up_here_is_left_alone() -> None:
    ours = {
        "PATH": "/bin",
        "CLIPCITE_DATABASE_URL": "postgresql://production",
        "CLIPCITE_ADMIN_KEY": "secret",
        "CLIPCITE_HOST": "0.0.0.0",
        "CLIPCITE_BACKBONE": "ViT-B-16/openai",
    }
    assert _environment(ours) == {"PATH": "/bin", "CLIPCITE_BACKBONE": "ViT-B-16/openai"}
