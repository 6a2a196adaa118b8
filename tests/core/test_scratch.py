import subprocess
import sys
from pathlib import Path

import pytest

from core.scratch import (
    FULL,
    ScratchBusy,
    ScratchExceeded,
    ScratchSpace,
    free_bytes,
    scratch_folder,
    sweep_scratch,
)


def test_a_folder_is_private_and_gone_at_the_end(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "tmp") as folder:
        (folder / "image").write_bytes(b"x")
        assert folder.stat().st_mode & 0o077 == 0
        assert sweep_scratch(tmp_path / "tmp") == 0  # The folder is in use.
        assert (folder / "image").exists()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_folders_of_killed_processes_are_swept(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib\n"
        "from core.scratch import scratch_folder\n"
        "with scratch_folder(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'image').write_bytes(b'x')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert killed.returncode == -9
    assert len(list(tmp_path.iterdir())) == 1
    assert sweep_scratch(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []
    assert sweep_scratch(tmp_path / "never made") == 0


def test_all_requests_share_the_space_and_an_owner_has_half_of_it(tmp_path: Path) -> None:
    space = ScratchSpace(tmp_path, 1_000)
    with space.share("ann") as first, space.share("ann") as second, space.share("bob") as other:
        first.take(300)
        second.take(200)
        with pytest.raises(ScratchBusy):
            second.take(1)
        other.take(500)
        with space.share("cid") as late, pytest.raises(ScratchBusy):
            late.take(1)
        with pytest.raises(ScratchExceeded, match="500 bytes"):
            other.take(1)
    with space.share("ann") as again:
        again.take(500)


def test_the_free_space_is_looked_at_first(tmp_path: Path) -> None:
    free = free_bytes(tmp_path / "never" / "made")
    with ScratchSpace(tmp_path, 10 * free).share("ann") as share:
        with pytest.raises(OSError, match="No space") as caught:
            share.take(free)
        assert caught.value.errno in FULL
        share.take(1)
        assert share.bytes == 1
