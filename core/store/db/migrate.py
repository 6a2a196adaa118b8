"""Brings a database's tables to this version: `python -m core.store.db.migrate`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, make_url, text

from core.settings import get_settings
from core.store.db.engine import make_engine
from core.store.errors import DatabaseUnavailable

# Beside `core`, in the repository as in an installed package.
FOLDER = Path(__file__).parents[3] / "migrations"
BEFORE_0_2 = {f"000{number}" for number in range(1, 9)}
"""Revisions of versions that had another history of migrations."""
_LOCK = 0x636C6970  # any number that nobody else locks; "clip"


def upgrade(url: str) -> None:
    """To the newest revision, in one transaction. Safe to run again, and from several at once.

    Raises:
        DatabaseUnavailable: a newer version, or one before 0.2.0, has written it; nothing is changed.
    """
    with migrating(url) as connection:
        foreign = _foreign(connection)
        if foreign:
            raise DatabaseUnavailable(foreign)
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def migrating(url: str) -> Iterator[Connection]:
    """A connection on which migrations may run: the only one at a time, in one transaction."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        # Images and models are private: a folder that we make is for its owner only.
        Path(parsed.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = make_engine(url, migrating=True)
    try:
        with engine.begin() as connection:  # on SQLite BEGIN IMMEDIATE, which is the lock
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            yield connection
    finally:
        engine.dispose()


def alembic_config() -> Config:
    """Without the URL: it may hold a %, which the file format of alembic would expand."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    return config


def problem_of(connection: Connection) -> str | None:
    """Why this version can't work with the tables of that database; None if it can."""
    stored = MigrationContext.configure(connection).get_current_revision()
    newest = _scripts().get_current_head()
    if stored == newest:
        return None
    if stored is None:
        return "The database has no tables yet. Run `clipcite db upgrade`, then start again."
    foreign = _foreign(connection)
    if foreign:
        return foreign
    return (
        f"The tables are of an older version (revision {stored!r}, needed is {newest!r}). "
        "Make a backup, run `clipcite db upgrade`, then start again."
    )


def _foreign(connection: Connection) -> str | None:
    """Explain what to do about tables of a version that this one cannot upgrade; None if it can."""
    stored = MigrationContext.configure(connection).get_current_revision()
    if stored is None:
        return None
    try:
        _scripts().get_revision(stored)
    except CommandError:
        if stored in BEFORE_0_2:
            return (
                "The database was written by a version before 0.2.0, which this one cannot upgrade. Keep a "
                "copy of it, and start with an empty CLIPCITE_DATA or with another CLIPCITE_DATABASE_URL."
            )
        return (
            f"The database is at revision {stored!r}, which this version of clipcite does not know: a newer "
            f"one has written it. Install that version, or restore a backup and run `clipcite db upgrade`."
        )
    return None


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(alembic_config())


def main() -> None:
    try:
        upgrade(get_settings().sqlalchemy_url())
    except DatabaseUnavailable as refused:
        sys.exit(refused.detail)


if __name__ == "__main__":
    main()
