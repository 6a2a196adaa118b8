"""A real small disk for tests that fill it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHUNK = 65_536
NAMESPACE = "CLIPCITE_TEST_NAMESPACE"


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount an empty file system of this size. Only for tests marked `mounts`."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, *, leave: int = 0) -> Path:
    """Write until at most `leave` bytes are free. Return the file that takes the space."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        while (free := shutil.disk_usage(disk).free) > leave:
            file.write(bytes(min(free - leave, CHUNK)))
    return ballast


def run_in_namespace(item: pytest.Function) -> None:
    """Run one test again in a mount namespace, which any user may create. Its mounts end with the test."""
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", item.nodeid],
        cwd=item.config.rootpath,
        env={**os.environ, NAMESPACE: "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(
            "In a namespace of its own, which needs Linux and the right to make one (in Docker: --cap-add "
            f"SYS_ADMIN --security-opt seccomp=unconfined):\n{done.stdout[-6000:]}{done.stderr[-2000:]}",
            pytrace=False,
        )
