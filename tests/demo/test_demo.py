"""`python -m demo` as a user runs it: output, exit status, and nothing from the network or from apt."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from core.clip.models.backbone import Backbone
from demo.service import _environment
from tests.clipcite.painted import COLOURS, paint

ROOT = Path(__file__).parents[2]
NO_NETWORK = """
import socket

connect = socket.socket.connect


def local_only(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1"):
        raise OSError(f"no network: {address}")
    return connect(self, address)


socket.socket.connect = local_only
"""


def demo(folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the demo in a folder, without a network and without other programs on PATH."""
    (folder / "sitecustomize.py").write_text(NO_NETWORK)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CLIPCITE_")}
    path = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "demo"],
        cwd=folder,
        env={**kept, "PATH": str(folder), "PYTHONPATH": path, "COLUMNS": "100", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_default_sample_wins(tmp_path: Path) -> None:
    done = demo(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(
        r"verdict +Better\. \d+% correct \(likely .* on your 96 test images, up from \d+% \(", done.stdout
    )
    fixed, broken = map(int, re.findall(r"(\d+) of 96[\w ]*: \w+ before, \w+ now", done.stdout))
    assert fixed > 4 * broken
    new = re.findall(r"  \w+ \(new, never trained\): (\d+) of 24 correct, (\d+) before", done.stdout)
    assert [int(now) >= 18 for now, _ in new] == [True]
    assert "<html" in (tmp_path / "demo-result" / "report.html").read_text()
    assert len(done.stdout.splitlines()) <= 22  # and three of `make install`


@pytest.mark.slow
def test_own_images_with_another_backbone(tmp_path: Path, backbone: Backbone) -> None:
    images = tmp_path / "images"
    for name in ("red", "green"):
        paint(images, f"train/{name}", 4)
    for name in COLOURS:
        paint(images, f"test/{name}", 2)
    done = demo(tmp_path, DATA=str(images), CLIPCITE_BACKBONE=backbone.name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 images of" in done.stdout
    assert "6 other images, also of the new class blue" in done.stdout
    assert re.search(r"blue \(new, never trained\): \d of 2 correct, \d before", done.stdout)
    assert "verdict" in done.stdout


def test_a_folder_without_classes(tmp_path: Path) -> None:
    done = demo(tmp_path, DATA=str(tmp_path))
    assert done.returncode == 1
    assert f"The demo cannot use DATA={tmp_path}" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_service_set_up_here_is_left_alone() -> None:
    ours = {
        "PATH": "/bin",
        "CLIPCITE_DATABASE_URL": "postgresql://production",
        "CLIPCITE_ADMIN_KEY": "secret",
        "CLIPCITE_HOST": "0.0.0.0",
        "CLIPCITE_BACKBONE": "ViT-B-16/openai",
    }
    assert _environment(ours) == {"PATH": "/bin", "CLIPCITE_BACKBONE": "ViT-B-16/openai"}
