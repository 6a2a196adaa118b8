"""The migrations, on both databases: they build the tables that the classes declare."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import inspect, text

from clipcite.types.images import ImageStats
from core.store.db import migrate
from core.store.db.session import Database
from core.store.db.tables import METADATA
from core.store.errors import DatabaseUnavailable
from core.store.jobs import jobs
from core.store.registry import models
from core.store.storage.blobs import Blobs
from tests.core.store.samples import OWNER, new_image, new_job, new_owner, stored_model

ROOT = Path(__file__).parents[4]


def tables(url: str) -> set[str]:
    with migrate.migrating(url) as connection:
        return set(inspect(connection).get_table_names())


def alembic(url: str, verb: str, *arguments: str) -> None:
    with migrate.migrating(url) as connection:
        config = migrate.alembic_config()
        config.attributes["connection"] = connection
        getattr(command, verb)(config, *arguments)


def test_upgrade_builds_the_declared_tables_and_may_run_again(empty_database_url: str) -> None:
    for _ in range(2):
        migrate.upgrade(empty_database_url)
        alembic(empty_database_url, "check")
    assert tables(empty_database_url) == {*METADATA.tables, "alembic_version"}


def test_downgrade_to_nothing_and_upgrade_again(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    alembic(empty_database_url, "downgrade", "base")
    assert tables(empty_database_url) == {"alembic_version"}
    migrate.upgrade(empty_database_url)
    alembic(empty_database_url, "check")


def test_an_upgrade_keeps_the_rows(empty_database_url: str, request: pytest.FixtureRequest) -> None:
    migrate.upgrade(empty_database_url)
    database = Database(empty_database_url)
    job_id = new_job(database, name="shoes")
    request.getfixturevalue("next_version")
    with pytest.raises(DatabaseUnavailable, match="older revision '0003'") as refused:
        database.check()
    assert "clipcite db upgrade" in refused.value.detail
    migrate.upgrade(empty_database_url)
    database.check()
    with database.read() as session:
        stored = session.execute(text("SELECT id, name, note FROM jobs")).one()
        images = session.scalar(text("SELECT count(*) FROM job_images"))
    assert (*stored, images) == (job_id, "shoes", "was shoes", 2)
    database.close()


def test_models_of_an_older_version_keep_their_names(empty_database_url: str, tmp_path: Path) -> None:
    migrate.upgrade(empty_database_url)
    database = Database(empty_database_url)
    model_id = stored_model(database, Blobs(tmp_path.as_uri()), name="shoes")
    alembic(empty_database_url, "downgrade", "0001")
    migrate.upgrade(empty_database_url)
    with database.read() as session:
        assert session.scalar(text("SELECT promoted FROM models")) == 1
        assert models.resolve(session, "shoes", owner=OWNER).id == model_id
    database.close()


def test_images_of_an_older_version_have_no_statistics(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    database = Database(empty_database_url)
    stats = ImageStats(128, 1.5, 40.1, 0.1 + 0.2, 0.5, "00", "ff", "0f")
    job_id = new_job(database, images=[replace(new_image("a.jpg"), stats=stats), new_image("b.jpg")])

    def stored() -> list[ImageStats | None]:
        with database.read() as session:
            return [jobs.image_of(row).stats for row in jobs.images(session, job_id)]

    assert stored() == [stats, None]
    alembic(empty_database_url, "downgrade", "0001")
    migrate.upgrade(empty_database_url)
    assert stored() == [None, None]
    database.close()


def test_a_new_file_is_private_in_an_existing_folder(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'clipcite.db'}"
    tmp_path.chmod(0o755)
    migrate.upgrade(url)
    database = Database(url)
    new_owner(database, "team-a")
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    database.close()
    assert modes == dict.fromkeys(("clipcite.db", "clipcite.db-wal", "clipcite.db-shm"), 0o600)


@pytest.mark.slow
def test_several_starts_at_once(empty_database_url: str) -> None:
    # A process each, as in production: alembic's context is global to a process.
    command = [sys.executable, "-m", "core.store.db.migrate"]
    environment = {**os.environ, "CLIPCITE_DATABASE_URL": empty_database_url}
    starts = [
        subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [start.communicate()[1] for start in starts]
    assert [start.returncode for start in starts] == [0] * 3, said
    Database(empty_database_url).check()


@pytest.mark.slow
def test_the_command_line_of_alembic_uses_our_settings(empty_database_url: str) -> None:
    environment = {**os.environ, "CLIPCITE_DATABASE_URL": empty_database_url}
    command = [sys.executable, "-m", "alembic", "upgrade", "head"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    alembic(empty_database_url, "check")


def test_a_migration_that_fails_leaves_nothing(empty_database_url: str) -> None:
    class Crash(Exception):
        pass

    def upgrade_and_crash() -> None:
        with migrate.migrating(empty_database_url) as connection:
            config = migrate.alembic_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            raise Crash

    with pytest.raises(Crash):
        upgrade_and_crash()
    assert tables(empty_database_url) == set()
    migrate.upgrade(empty_database_url)


KILL = """
import os, signal, sys
from sqlalchemy import event
from clipcite.types.images import ImageStats
from core.store.db import migrate
from core.store.db.engine import Engine

def killed_after(connection, cursor, statement, *_):
    if sys.argv[2] in statement:
        os.kill(os.getpid(), signal.SIGKILL)

event.listen(Engine, "after_cursor_execute", killed_after)
migrate.upgrade(sys.argv[1])
"""


@pytest.mark.parametrize("within", ["CREATE TABLE job_events", "INSERT INTO alembic_version"])
def test_a_migration_that_is_killed_half_way_is_run_again(empty_database_url: str, within: str) -> None:
    command = [sys.executable, "-c", KILL, empty_database_url, within]
    assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
    assert tables(empty_database_url) == set()
    migrate.upgrade(empty_database_url)
    alembic(empty_database_url, "check")


@pytest.mark.slow
def test_an_old_version_does_not_start_on_a_newer_database(tmp_path: Path, migrated: Path) -> None:
    path = tmp_path / "clipcite.db"
    path.write_bytes(migrated.read_bytes())
    database = Database(f"sqlite:///{path}")
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999_future'"))
    database.close()
    environment = {**os.environ, "CLIPCITE_DATA": str(tmp_path), "CLIPCITE_WARM_TRAINER": "false"}
    environment.pop("CLIPCITE_DATABASE_URL", None)
    started = {
        module: subprocess.Popen(
            [sys.executable, "-m", module], env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        for module in ("core.store.db.migrate", "worker.dispatcher", "worker", "api")
    }
    try:
        for module, process in started.items():
            _, said = process.communicate(timeout=600)
            assert process.returncode == 1, module
            assert "which another version" in said, module
            assert "Traceback" not in said, module
    finally:
        for process in started.values():
            process.kill()


def test_a_password_and_a_folder_may_hold_a_percent_sign(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / '100%d %(here)s' / 'clipcite.db'}"
    migrate.upgrade(url)
    Database(url).check()


@pytest.mark.parametrize(
    ("revision", "says", "remedy"),
    [
        (None, "has no tables yet", "clipcite db upgrade"),
        ("9999_future", "which another version", "clipcite db upgrade"),
    ],
)
def test_a_database_of_another_version_is_refused(
    database_url: str, revision: str | None, says: str, remedy: str
) -> None:
    database = Database(database_url)
    database.check()
    with database.write() as session:
        session.execute(text("DELETE FROM alembic_version"))
        if revision:
            session.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision})
    with pytest.raises(DatabaseUnavailable, match=says) as refused:
        database.check()
    assert remedy in refused.value.detail
    database.close()
    if revision is not None:
        with pytest.raises(DatabaseUnavailable, match=says):
            migrate.upgrade(database_url)


def test_a_damaged_file_ends_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, migrated: Path
) -> None:
    """`clipcite serve` starts with a file that is not a database, and with a damaged page."""
    monkeypatch.setenv("CLIPCITE_DATA", str(tmp_path))
    monkeypatch.delenv("CLIPCITE_DATABASE_URL", raising=False)
    content = migrated.read_bytes()
    for damaged in (b"no database" * 500, content[:100] + b"\xff" * 4000 + content[4100:]):
        (tmp_path / "clipcite.db").write_bytes(damaged)
        done = subprocess.run(
            [sys.executable, "-m", "core.store.db.migrate"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "clipcite restore" in done.stderr
        assert done.stderr.count("\n") == 1


def test_the_data_folder_is_private(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'data' / 'clipcite.db'}"
    migrate.upgrade(url)
    new_job(Database(url))
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0
