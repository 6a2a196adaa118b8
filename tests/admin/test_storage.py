"""`clipcite sweep`, `clipcite storage adopt` and the storage checks of `clipcite doctor`, as an operator runs
them.
"""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from typer.testing import CliRunner, Result

from clipcite.cli.main import app
from core.store.db import migrate
from core.store.db.ids import new_id
from core.store.db.session import Database
from core.store.db.tables import Orphan
from core.store.storage import installation
from core.store.storage.blobs import Blobs
from tests.core.store.samples import new_job


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CLIPCITE_DATABASE_URL", "CLIPCITE_DATA", "CLIPCITE_BLOB_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "data"


def call(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--data", str(data)])


def test_orphans_are_listed_and_deleted_when_due(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{data / 'clipcite.db'}"
    migrate.upgrade(url)
    database, blobs = Database(url), Blobs((data / "blobs").as_uri())
    installation.write_if_empty(database, blobs)
    kept, lost = f"jobs/{new_job(database)}", f"models/{new_id('mdl')}"
    for folder in (kept, lost):
        blobs.put(f"{folder}/0", b"x")
    for _ in range(2):
        listed = call(data, "sweep", "--dry-run")
        assert listed.exit_code == 0, listed.output
        assert f"{lost}  marked" in listed.stdout
        assert kept not in listed.stdout
    assert call(data, "sweep").exit_code == 0
    with database.write() as session:  # Eight days later.
        for mark in session.scalars(select(Orphan)):
            mark.first_seen -= timedelta(days=8)
    refused = call(data, "sweep")
    assert refused.exit_code == 1
    assert "1 due, 0 deleted" in refused.stdout
    assert "clipcite sweep --yes" in refused.stderr
    swept = json.loads(call(data, "sweep", "--yes", "--json").stdout)
    assert (swept["deleted"], swept["refusal"]) == ([lost], None)
    assert blobs.folders("jobs") + blobs.folders("models") == [kept]
    assert call(data, "sweep", "--yes", "--dry-run").exit_code == 2
    database.close()


def finding(data: Path, capfd: pytest.CaptureFixture[str]) -> dict[str, str]:
    capfd.readouterr()
    found = json.loads(call(data, "doctor", "--json", "--url", "http://127.0.0.1:1").stdout)
    (one,) = [one for one in found if one["name"] == "sweep"]
    return one


@pytest.mark.slow
def test_a_storage_of_another_database_is_reported_and_can_be_adopted(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The database was lost; its files exist."""
    blobs = Blobs((data / "blobs").as_uri())
    blobs.put(f"models/{new_id('mdl')}/weights", b"x")
    blobs.put(installation.KEY, b'{"id": "ins_lost"}')
    lost = finding(data, capfd)
    assert lost["state"] == "problem"
    assert "there is no database" in lost["detail"]
    url = f"sqlite:///{data / 'clipcite.db'}"
    migrate.upgrade(url)
    other = finding(data, capfd)
    assert other["state"] == "problem"
    for said in ("ins_lost", "restore its backup", "clipcite storage adopt"):
        assert said in other["detail"]
    refused = call(data, "sweep", "--yes")
    assert refused.exit_code == 1
    assert "belongs to another database" in refused.stderr
    assert "knows 0 of its 1 folders" in call(data, "storage", "adopt").stdout
    assert finding(data, capfd)["state"] == "ok"
    assert call(data, "sweep").exit_code == 0
    assert finding(data, capfd)["state"] == "warning"  # Nothing stored has an owner.
    assert len(blobs.folders("models")) == 1


@pytest.mark.slow
def test_an_empty_storage_in_the_place_of_its_own_is_reported_and_can_be_adopted(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{data / 'clipcite.db'}"
    migrate.upgrade(url)
    database, blobs = Database(url), Blobs((data / "blobs").as_uri())
    new_job(database)
    lost = finding(data, capfd)
    assert lost["state"] == "problem"
    assert "clipcite storage adopt" in lost["detail"]
    refused = call(data, "sweep")
    assert refused.exit_code == 1
    assert "mount it" in capfd.readouterr().err
    assert blobs.is_empty()
    assert "knows 0 of its 0 folders" in call(data, "storage", "adopt").stdout
    assert finding(data, capfd)["state"] == "ok"
    database.close()


def test_a_missing_database_is_reported(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for arguments in (["sweep"], ["storage", "adopt"]):
        assert call(data, *arguments).exit_code == 1
        said = capfd.readouterr().err
        assert "CLIPCITE_DATABASE_URL" in said
        assert "Traceback" not in said
