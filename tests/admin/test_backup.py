"""`clipcite backup` and `restore`: killed processes, wrong clocks and tampered folders."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from clipcite.__main__ import app
from core.settings import Settings
from core.store.db import migrate
from core.store.db.session import Database
from core.store.storage.blobs import Blobs
from tests.core.store.samples import stored_job
from worker.dispatcher.cleanup import finish_deletions

ROOT = Path(__file__).parents[2]
KILLED = """
import os, signal
from clipcite.__main__ import app
os.fsync = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
app()
"""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a data folder with a job."""
    for name in ("CLIPCITE_DATABASE_URL", "CLIPCITE_DATA", "CLIPCITE_BLOB_URL"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings(data=tmp_path / "data")
    migrate.upgrade(settings.sqlalchemy_url())
    database = Database(settings.sqlalchemy_url())
    stored_job(database, Blobs.of(settings))
    database.close()
    return settings.data


def run(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--data", str(data)])


def test_a_killed_backup_leaves_nothing_for_long(data: Path, tmp_path: Path) -> None:
    """The next backup removes its private temporary files. They are never in the system's folder."""
    system = tmp_path / "system"
    system.mkdir()
    environment = {**os.environ, "TMPDIR": str(system), "CLIPCITE_DATA": str(data)}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, "backup", str(tmp_path / "backup")],
        cwd=ROOT,
        env=environment,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert list(system.iterdir()) == []
    scratch = Settings(data=data).scratch()
    assert len(list(scratch.iterdir())) == 1
    assert len(list((tmp_path / "backup").rglob("*.part"))) == 1
    refused = run(data, "restore", str(tmp_path / "backup"))
    assert refused.exit_code == 1
    assert "has no complete backup" in refused.stderr
    assert run(data, "backup", str(tmp_path / "backup")).exit_code == 0
    assert list(scratch.iterdir()) == []
    assert list((tmp_path / "backup").rglob("*.part")) == []


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_full_disk_is_one_sentence(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """The same command works once there is space."""
    given = ("backup", str(tmp_path / "backup"))
    if command == "restore":
        assert run(data, *given).exit_code == 0
        data, given = tmp_path / "new", ("restore", given[1])

    def full(dir: Path) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"{dir}/tmp1")

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkdtemp", full)
        refused = run(data, *given)
    assert refused.exit_code == 1
    assert refused.output.endswith(
        "/tmp1: No space left on device. Free some space, and give the command again.\n"
    )
    assert run(data, *given).exit_code == 0


def test_the_command_that_starts_a_restored_service(data: Path, tmp_path: Path) -> None:
    assert run(data, "backup", str(tmp_path / "backup")).exit_code == 0
    done = run(tmp_path / "a copy", "restore", str(tmp_path / "backup"))
    assert done.stdout.endswith(f"Start the service: clipcite serve --data '{tmp_path}/a copy'\n")


@pytest.mark.parametrize("command", [["verify"], ["backup", "backup"]])
def test_a_folder_without_an_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(tmp_path / "dta", *command)
    assert done.exit_code == 1
    says = f"No installation in {tmp_path}/dta; give the --data of the service, or set CLIPCITE_DATA."
    assert done.stderr.strip() == says
    assert not list(tmp_path.iterdir())


def tampered(backup: Path, kind: str, change: Callable[[list[Any]], object]) -> None:
    """Change the lines of a kind in a snapshot, and its hash."""
    (snapshot,) = (backup / "snapshots").iterdir()
    lines = [json.loads(line) for line in snapshot.read_text().splitlines()]
    at = next((number for number, line in enumerate(lines) if line[0] == kind), len(lines) - 1)
    rows = [content for found, content in lines if found == kind]
    change(rows)
    lines = [line for line in lines if line[0] != kind]
    lines[at:at] = [[kind, content] for content in rows]
    text = [f"{json.dumps(line)}\n" for line in lines]
    if lines[-1][0] == "end" and isinstance(lines[-1][1], dict):
        lines[-1][1]["sha256"] = hashlib.sha256("".join(text[:-1]).encode()).hexdigest()
        text[-1] = f"{json.dumps(lines[-1])}\n"
    snapshot.write_text("".join(text))


TAMPERED: dict[str, tuple[str, Callable[[list[Any]], object]]] = {
    "path": ("blob", lambda rows: rows[0].update(key="../../x")),
    "escape": ("blob", lambda rows: rows[0].update(key="jobs/\x1b[2K")),
    "size": ("blob", lambda rows: rows[0].update(bytes="many")),
    "hash": ("blob", lambda rows: rows[0].pop("sha256")),
    "format": ("backup", lambda rows: rows[0].update(format="\x1b[2J")),
    "revision": ("backup", lambda rows: rows[0].update(revision="\x1b[2J")),
    "no header": ("backup", lambda rows: rows.clear()),
    "no end": ("end", lambda rows: rows.clear()),
    "no object": ("jobs", lambda rows: rows.append([])),
    "time": ("jobs", lambda rows: rows[0].update(created_at="\x1b[2K")),
    "type": ("jobs", lambda rows: rows[0].update(created_at=7)),
    "status": ("jobs", lambda rows: rows[0].update(status="x")),
    "missing column": ("jobs", lambda rows: rows[0].pop("owner")),
    "unknown column": ("jobs", lambda rows: rows[0].update(x=1)),
    "nested": ("jobs", lambda rows: rows[0].update(id={"a": 1})),
    "twice": ("jobs", lambda rows: rows.append(rows[0])),
    "no installation": ("installation", lambda rows: rows.clear()),
    "no rows": ("end", lambda rows: rows[0].update(rows=[1])),
    "another table": ("end", lambda rows: rows[0]["rows"].update(blob=1)),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_a_tampered_backup_ends_in_one_sentence(data: Path, tmp_path: Path, how: str) -> None:
    assert run(data, "backup", str(tmp_path / "backup")).exit_code == 0
    tampered(tmp_path / "backup", *TAMPERED[how])
    done = run(tmp_path / "copy", "restore", str(tmp_path / "backup"))
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    *_, said = done.stderr.splitlines()
    assert said.endswith((".", ")."))
    assert "\x1b" not in done.output
    outside = {path.name for path in tmp_path.iterdir()}
    assert outside == {"data", "backup", "copy"}


def test_deletions_of_a_backup_are_not_restored(data: Path, tmp_path: Path) -> None:
    assert run(data, "backup", str(tmp_path / "backup")).exit_code == 0
    tampered(tmp_path / "backup", "deletions", lambda rows: rows.append({"prefix": "jobs", "due_at": None}))
    tampered(tmp_path / "backup", "end", lambda rows: rows[0]["rows"].update(deletions=1))
    settings = Settings(data=tmp_path / "copy")
    assert run(settings.data, "restore", str(tmp_path / "backup")).exit_code == 0
    database = Database(settings.sqlalchemy_url())
    assert finish_deletions(database, Blobs.of(settings)) == []
    database.close()


def test_other_and_damaged_files_among_the_snapshots(data: Path, tmp_path: Path) -> None:
    """A renamed copy is no snapshot, and a damaged one doesn't keep the next from being made."""
    backup = tmp_path / "backup"
    assert run(data, "backup", str(backup)).exit_code == 0
    (first,) = (backup / "snapshots").iterdir()
    for name in ("20260101T000000Z-keep.jsonl", "._20260101T000000Z.jsonl"):
        (backup / "snapshots" / name).write_bytes(first.read_bytes())
    first.write_text("[]\n")
    done = run(data, "backup", str(backup))
    assert done.exit_code == 0, done.output
    assert f"The snapshot {first.stem} is damaged, so all files are copied again." in done.output
    done = run(tmp_path / "copy", "restore", str(backup))
    assert done.exit_code == 0, done.output
