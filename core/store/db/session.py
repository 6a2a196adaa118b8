"""Database sessions: each `write()` is one transaction."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, func, literal, select, text, type_coerce
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from core.store.db.base import UtcDateTime
from core.store.db.engine import make_engine
from core.store.db.migrate import problem_of
from core.store.errors import DatabaseFull, DatabaseUnavailable

PUBLIC_DETAIL = (
    "The database does not respond properly. Stored data is safe. Try again in a moment. If the error "
    "persists, the operator finds the cause in the service's log."
)
READ_ONLY = (
    "The database is read-only. Images are still classified, but no job starts and nothing is stored. Wait "
    "for the end of the failover, let CLIPCITE_DATABASE_URL name the server that can write, or switch off "
    "default_transaction_read_only."
)


class Database:
    """Sessions on one database. Rows stay readable after their session has ended.

    `read()` and `write()` raise DatabaseUnavailable for any failure of the server: it is unreachable or
    restarting, or a lock or a statement takes too long. A full disk raises the subclass DatabaseFull. If a
    commit fails, the change may be stored or not, so callers must check before they act on it.
    """

    def __init__(self, url: str) -> None:
        self.engine = make_engine(url)
        # On SQLite, a transaction that reads and then writes fails if another one wrote in between. BEGIN
        # IMMEDIATE waits for the lock instead.
        self._readers = sessionmaker(self.engine, expire_on_commit=False)
        self._writers = sessionmaker(
            self.engine.execution_options(sqlite_begin="BEGIN IMMEDIATE"), expire_on_commit=False
        )

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Yield a session whose transaction is never committed."""
        with unavailability(), self._readers() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Yield a session whose transaction commits at the end and rolls back on any exception."""
        with unavailability(), self._writers.begin() as session:
            yield session

    def check(self) -> None:
        """Raise DatabaseUnavailable unless the database responds and has this version's tables."""
        problem = self._problem()
        if problem:
            raise DatabaseUnavailable(problem)

    def check_writable(self) -> None:
        """Raise DatabaseUnavailable while PostgreSQL refuses writes, such as on a standby.

        The connection is closed then, because only a new one reaches the server that can write.
        """
        if self.engine.dialect.name != "postgresql":
            return
        with unavailability(), self.engine.connect() as connection:
            if connection.scalar(text("SHOW transaction_read_only")) == "on":
                connection.invalidate()
                raise DatabaseUnavailable(READ_ONLY, PUBLIC_DETAIL)

    def startup_error(self) -> str | None:
        """Return why a process must not start on this database, or None if it may.

        A process must not start on tables of another version, which it could damage. It may start while the
        database is unavailable, because that is temporary.
        """
        try:
            return self._problem()
        except DatabaseUnavailable:
            return None

    def _problem(self) -> str | None:
        with unavailability(), self.engine.connect() as connection:
            return problem_of(connection)

    def close(self) -> None:
        self.engine.dispose()


def database_now(session: Session) -> datetime:
    """Return the current time for leases, aware, in UTC.

    This is PostgreSQL's clock, because workers on several machines must agree. It is not `now()`, which
    stands still while a transaction waits for a lock. SQLite uses this machine's clock.
    """
    if session.get_bind().dialect.name != "postgresql":
        return datetime.now(UTC)
    return session.scalars(select(now_column(session))).one()


def now_column(session: Session) -> ColumnElement[datetime]:
    """Return the time of `database_now` as a column of a statement."""
    if session.get_bind().dialect.name != "postgresql":
        return literal(datetime.now(UTC), UtcDateTime)
    return type_coerce(func.clock_timestamp(), UtcDateTime)


@contextmanager
def unavailability() -> Iterator[None]:
    """Raise DatabaseUnavailable for any failure of the server, and for a damaged SQLite file."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        if _is_full(error):
            raise DatabaseFull(
                "The disk of the database is full. Nothing was stored. Free some space there and send the "
                "request again."
            ) from error
        raise DatabaseUnavailable(_sentence(error), PUBLIC_DETAIL) from error
    except DatabaseError as error:
        # For a damaged file SQLite raises this class itself, not a subclass. On PostgreSQL, a read-only
        # server and an idle session invalidate the connection.
        if type(error) is DatabaseError or error.connection_invalidated:
            raise DatabaseUnavailable(_sentence(error), PUBLIC_DETAIL) from error
        raise


def _is_full(error: Exception) -> bool:
    """Return whether the error is SQLITE_FULL, or PostgreSQL's `disk_full`."""
    original = getattr(error, "orig", None)
    return (
        getattr(original, "sqlite_errorname", None) == "SQLITE_FULL"
        or getattr(original, "sqlstate", None) == "53100"
    )


def _sentence(error: Exception) -> str:
    """Return cause and remedy. Leave out the statement and its values, which contain users' data."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return (
        f"The database does not respond properly ({lines[0] if lines else type(error).__name__}). Stored "
        "data is safe. Try again in a moment. If the error persists, check that the database of "
        "CLIPCITE_DATABASE_URL is running, has disk space and can be reached from this machine."
    )
