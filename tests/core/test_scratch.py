import subprocess
import sys
from pathlib import Path

import pytest

from core.admission import ServerBusy
from core.scratch import (
    ScratchExceeded,
    ScratchFull,
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


def run_killed(script: str, folder: Path) -> None:
    """Run a program that kills itself, with the folder as its argument."""
    killed = subprocess.run([sys.executable, "-c", script, str(folder)], check=False)
    assert killed.returncode == -9


def test_folders_of_killed_processes_are_swept(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib\n"
        "from core.scratch import scratch_folder\n"
        "with scratch_folder(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'image').write_bytes(b'x')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    run_killed(script, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert sweep_scratch(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []
    assert sweep_scratch(tmp_path / "never made") == 0


def test_a_process_that_is_killed_while_it_removes_its_folder_leaves_the_lock(tmp_path: Path) -> None:
    """It is killed at the 100th of 101 files, in the order of the file system: a tmpfs has new ones first."""
    script = (
        "import os, sys, pathlib\n"
        "from core.scratch import scratch_folder\n"
        "removed = []\n"
        "def kill(event, args):\n"
        "    if event == 'os.remove' and (removed.append(args) or len(removed) == 100):\n"
        "        os.kill(os.getpid(), 9)\n"
        "with scratch_folder(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'model').mkdir()\n"
        "    for number in range(50):\n"
        "        (folder / str(number)).write_bytes(b'x')\n"
        "        (folder / 'model' / str(number)).write_bytes(b'x')\n"
        "    (folder / '.lock').rename(folder / 'lock').rename(folder / '.lock')\n"
        "    sys.addaudithook(kill)\n"
    )
    run_killed(script, tmp_path)
    (folder,) = tmp_path.iterdir()
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 2
    assert sweep_scratch(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_all_requests_share_the_space_and_an_owner_has_half_of_it(tmp_path: Path) -> None:
    space = ScratchSpace(tmp_path, 1_000)
    with space.hold("ann", 300), space.hold("ann", 200) as second, space.hold("bob", 500) as other:
        with pytest.raises(ServerBusy):
            second(1)
        with space.hold("cid") as late, pytest.raises(ServerBusy):
            late(1)
        with pytest.raises(ScratchExceeded, match="500 bytes"):
            other(1)
    with space.hold("ann", 500):
        pass


def test_the_free_space_is_looked_at_first(tmp_path: Path) -> None:
    free = free_bytes(tmp_path / "never" / "made")
    space = ScratchSpace(tmp_path, 10 * free)
    with space.hold("ann") as take:
        with pytest.raises(ScratchFull):
            take(free)
        take(1)
        assert space.held == 1
