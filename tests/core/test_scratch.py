import subprocess
import sys
from pathlib import Path

from core.scratch import scratch_folder, sweep_scratch


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
