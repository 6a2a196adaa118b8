"""Fixtures of the tests that run on both database systems, because locks, claims, time-outs or SQL differ."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.store.db import migrate
from core.store.db.session import Database
from tests.conftest import postgres_database


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return a database without tables, on each database system."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'data' / 'clipcite.db'}"
    else:
        with postgres_database(request.getfixturevalue("postgres_url")) as url:
            yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return a fresh migrated database, on each database system."""
    if request.param == "sqlite":
        path = tmp_path / "data" / "clipcite.db"
        path.parent.mkdir(mode=0o700)
        shutil.copy(request.getfixturevalue("migrated"), path)
        yield f"sqlite:///{path}"
    else:
        server, template = (request.getfixturevalue(f"postgres_{name}") for name in ("url", "template"))
        with postgres_database(server, template) as url:
            yield url


@pytest.fixture
def pair_on_postgres(postgres_url: str, postgres_template: str) -> Iterator[tuple[Database, Database]]:
    """Return two clients of one PostgreSQL database, which no other test uses."""
    with postgres_database(postgres_url, postgres_template) as url:
        pair = Database(url), Database(url)
        yield pair
        for database in pair:
            database.close()


@pytest.fixture
def on_postgres(pair_on_postgres: tuple[Database, Database]) -> Database:
    return pair_on_postgres[0]


LATER = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "9999", "HEAD", None, None


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("note", sa.Text(), nullable=False, server_default=""))
    op.execute("UPDATE jobs SET note = 'was ' || name")


def downgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("note")
"""
"""A migration of a later version: a new column, filled from another one."""


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Replace this version by one with a migration more."""
    folder = tmp_path / "migrations"
    head = str(migrate._scripts().get_current_head())
    shutil.copytree(migrate.FOLDER, folder)
    (folder / "versions" / "9999_of_a_test.py").write_text(LATER.replace("HEAD", head), encoding="utf-8")
    monkeypatch.setattr(migrate, "FOLDER", folder)
    migrate._scripts.cache_clear()
    yield
    migrate._scripts.cache_clear()
