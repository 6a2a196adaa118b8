"""The synchronous client, generated from the asynchronous one."""

import shutil
from pathlib import Path

import pytest

from tests.repository import unasync


def test_check_shows_stale_files_and_a_run_repairs_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = shutil.copytree(unasync.ROOT / unasync.CLIENT, tmp_path / "client")
    source = client / "_async" / "transport.py"
    source.write_text(source.read_text().replace("attempt += 1", "attempt += 2"))
    (client / "_sync" / "download.py").unlink()
    (client / "_sync" / "extra.py").write_text("LEFT_OVER = 1\n")
    assert unasync.main(["--check"], client) == 1
    shown = capsys.readouterr().out.splitlines()
    assert {"-            attempt += 1", "+            attempt += 2"} <= set(shown)
    assert {"+CHUNK_BYTES = 256 * 1024", "-LEFT_OVER = 1"} <= set(shown)
    assert unasync.main([], client) == 0
    assert not (client / "_sync" / "extra.py").exists()
    assert unasync.main(["--check"], client) == 0
