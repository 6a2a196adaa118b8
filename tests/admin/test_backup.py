"""`clipcite backup` and `restore`: killed processes, wrong clocks and tampered folders."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from clipcite.cli.main import app
from core.settings import Settings
from core.store.backup import snapshots
from core.store.db import migrate
from core.store.db.session import Database
from core.store.storage.blobs import Blobs
from tests.core.store.backup.test_backup import stored_job
from worker.dispatcher.cleanup import finish_deletions

ROOT = Path(__file__).parents[2]
KILLED = """
import os, signal
from clipcite.cli.main import app
from core.store.backup import snapshots
snapshots.Backup.put = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
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
    """The next one removes its temporary files, which hold private rows. The system's folder gets none."""
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
    assert run(data, "backup", str(tmp_path / "backup")).exit_code == 0
    assert list(scratch.iterdir()) == []


def test_snapshots_in_the_future_are_named(data: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "backup")
    assert json.loads(run(data, "backup", folder, "--json").stdout)["ahead"] == []
    (first,) = (tmp_path / "backup" / "snapshots").iterdir()
    future = (datetime.now(UTC) + timedelta(days=365)).strftime(snapshots.TIME)
    first.rename(first.with_name(future))
    made = run(data, "backup", folder, "--keep", "2")
    assert made.exit_code == 1
    assert f"The snapshot {future} lies in the future" in made.stderr
    assert "Deleted" not in made.stdout
    assert len(list((tmp_path / "backup" / "snapshots").iterdir())) == 2


def tampered(backup: Path, file: str, change: Callable[[list[Any]], object]) -> None:
    """Change the rows of a file, and its hash in the manifest."""
    (snapshot,) = (backup / "snapshots").iterdir()
    manifest = json.loads((snapshot / "manifest.json").read_text())
    if file == "manifest.json":
        change([manifest])
    else:
        path = snapshot / file
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        change(rows)
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        manifest["files"][file] = hashlib.sha256(path.read_bytes()).hexdigest()
        manifest["rows"].setdefault(file.removesuffix(".jsonl"), len(rows))
    (snapshot / "manifest.json").write_text(json.dumps(manifest))


TAMPERED: dict[str, tuple[str, Callable[[list[Any]], object]]] = {
    "path": ("blobs.jsonl", lambda rows: rows[0].update(key="../../x")),
    "escape": ("blobs.jsonl", lambda rows: rows[0].update(key="jobs/\x1b[2K")),
    "missing blob with an escape": ("manifest.json", lambda rows: rows[0].update(format="\x1b[2J")),
    "size": ("blobs.jsonl", lambda rows: rows[0].update(bytes="many")),
    "no object": ("jobs.jsonl", lambda rows: rows.append([])),
    "time": ("jobs.jsonl", lambda rows: rows[0].update(created_at="\x1b[2K")),
    "type": ("jobs.jsonl", lambda rows: rows[0].update(created_at=7)),
    "status": ("jobs.jsonl", lambda rows: rows[0].update(status="x")),
    "missing column": ("jobs.jsonl", lambda rows: rows[0].pop("owner")),
    "nested": ("jobs.jsonl", lambda rows: rows[0].update(id={"a": 1})),
    "twice": ("jobs.jsonl", lambda rows: rows.append(rows[0])),
    "no installation": ("installation.jsonl", lambda rows: rows.clear()),
    "manifest": ("manifest.json", lambda rows: rows[0].update(rows=[1])),
    "no files": ("manifest.json", lambda rows: rows[0].update(files=None)),
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
    tampered(
        tmp_path / "backup", "deletions.jsonl", lambda rows: rows.append({"prefix": "jobs", "due_at": None})
    )
    settings = Settings(data=tmp_path / "copy")
    assert run(settings.data, "restore", str(tmp_path / "backup")).exit_code == 0
    database = Database(settings.sqlalchemy_url())
    assert finish_deletions(database, Blobs.of(settings)) == []
    database.close()
