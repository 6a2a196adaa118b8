"""Migration of the database to this version: `python -m core.store.db.migrate`."""

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
from sqlalchemy.exc import DatabaseError

from core.settings import get_settings
from core.store.db.engine import make_engine
from core.store.errors import DatabaseUnavailable

# The folder lies beside `core`, both in the repository and in an installed package.
FOLDER = Path(__file__).parents[3] / "migrations"
_LOCK = 0x636C6970  # arbitrary unique number ("clip")


def upgrade(url: str) -> None:
    """Upgrade the tables to the newest revision, in one transaction. Repeated and concurrent calls are safe.

    Raises:
        DatabaseUnavailable: an unknown version wrote the database. It is unchanged.
    """
    with migrating(url) as connection:
        problem = _unknown_version(connection)
        if problem:
            raise DatabaseUnavailable(problem)
        to_revision(connection, "head")


def to_revision(connection: Connection, revision: str) -> None:
    """Run the migrations up to a revision, or down to `base`, within the transaction of the connection."""
    config = alembic_config()
    config.attributes["connection"] = connection
    (command.downgrade if revision == "base" else command.upgrade)(config, revision)


@contextmanager
def migrating(url: str) -> Iterator[Connection]:
    """Yield a connection for migrations: one transaction under an exclusive lock.

    Raises:
        DatabaseUnavailable: SQLite's file can't be created, or is damaged.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        # Only the user may read a new folder and file, because images, models and webhook secrets are
        # private. SQLite gives its log files the same mode.
        path = Path(parsed.database)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
        except OSError as error:
            raise DatabaseUnavailable(
                f"{path} can't be created: {error.strerror}. Choose another folder with CLIPCITE_DATA "
                "or --data."
            ) from error
    engine = make_engine(url, migrating=True)
    try:
        with engine.begin() as connection:  # on SQLite BEGIN IMMEDIATE, which is the lock
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            yield connection
    except DatabaseError as error:
        if type(error) is not DatabaseError:  # SQLite raises exactly this class for a damaged file
            raise
        raise DatabaseUnavailable(
            f"The file {parsed.database} is damaged, or not a database ({error.orig}). Move it away, then "
            "restore a backup with `clipcite restore`, or start without data."
        ) from error
    finally:
        engine.dispose()


def alembic_config() -> Config:
    """Return Alembic's configuration, without the URL: Alembic would expand a % in it."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    return config


def problem_of(connection: Connection) -> str | None:
    """Return why this version can't use the database's tables, or None if it can."""
    stored = MigrationContext.configure(connection).get_current_revision()
    newest = _scripts().get_current_head()
    if stored == newest:
        return None
    if stored is None:
        return "The database has no tables yet. Run `clipcite db upgrade`, then start again."
    problem = _unknown_version(connection)
    if problem:
        return problem
    return (
        f"The tables have the older revision {stored!r}, and this version needs {newest!r}. Make a backup, "
        "run `clipcite db upgrade`, then start again."
    )


def is_known(revision: str) -> bool:
    """Return whether this version has the migration."""
    try:
        return _scripts().get_revision(revision) is not None
    except CommandError:
        return False


def _unknown_version(connection: Connection) -> str | None:
    """Return cause and remedy if this version can't upgrade the tables, else None."""
    stored = MigrationContext.configure(connection).get_current_revision()
    if stored is None or is_known(stored):
        return None
    return (
        f"The database has revision {stored!r}, which another version of clipcite wrote. Install that "
        "version, or restore a backup and run `clipcite db upgrade`."
    )


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(alembic_config())


def main() -> None:
    try:
        upgrade(get_settings().sqlalchemy_url())
    except DatabaseUnavailable as error:
        sys.exit(error.detail)


if __name__ == "__main__":
    main()
