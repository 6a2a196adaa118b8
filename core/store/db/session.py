"""The unit of work. One `write()` is one transaction: all of it is stored, or none."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from core.store.db.engine import make_engine
from core.store.db.migrate import problem_of
from core.store.errors import DatabaseFull, DatabaseUnavailable


class Database:
    """Sessions on one database. Rows can be read after their session has ended.

    Whatever goes wrong between us and the server (away, restarting, a lock or a statement that
    takes too long) leaves `read()` and `write()` as DatabaseUnavailable, a full disk as
    its kind DatabaseFull. If that happens at a commit, the change may or may not be stored: ask
    again before acting on it.
    """

    def __init__(self, url: str) -> None:
        self.engine = make_engine(url)
        # A transaction that first reads and then writes fails at once on SQLite if another wrote
        # between; begun as IMMEDIATE it waits its turn instead.
        self._readers = sessionmaker(self.engine, expire_on_commit=False)
        self._writers = sessionmaker(
            self.engine.execution_options(sqlite_begin="BEGIN IMMEDIATE"), expire_on_commit=False
        )

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that is never committed."""
        with _unavailability(), self._readers() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction: committed at the end, rolled back on any exception."""
        with _unavailability(), self._writers.begin() as session:
            yield session

    def check(self) -> None:
        """Raises DatabaseUnavailable unless the database answers and has this version's tables."""
        problem = self._problem()
        if problem:
            raise DatabaseUnavailable(problem)

    def startup_error(self) -> str | None:
        """Why a process must not start on this database: its tables are of another version, which it
        could harm. None also while the database is away: that passes."""
        try:
            return self._problem()
        except DatabaseUnavailable:
            return None

    def _problem(self) -> str | None:
        with _unavailability(), self.engine.connect() as connection:
            return problem_of(connection)

    def close(self) -> None:
        self.engine.dispose()


def database_now(session: Session) -> datetime:
    """The time that leases are measured with, aware, in UTC.

    PostgreSQL's clock, since workers on several machines must agree; not `now()`, which stands
    still while a transaction waits for a lock. SQLite has one machine, and thus one clock.
    """
    if session.get_bind().dialect.name != "postgresql":
        return datetime.now(UTC)
    value: datetime = session.scalars(select(func.clock_timestamp())).one()
    return value.astimezone(UTC)


@contextmanager
def _unavailability() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        if _is_full(error):
            raise DatabaseFull(
                "The disk of the database is full. Nothing was stored; make room there and send it again."
            ) from error
        raise DatabaseUnavailable(_sentence(error)) from error
    except DatabaseError as error:
        # This very class, and none below it, is what SQLite raises on a damaged file.
        if type(error) is DatabaseError:
            raise DatabaseUnavailable(_sentence(error)) from error
        raise


def _is_full(error: Exception) -> bool:
    """As SQLite and PostgreSQL say so (`disk_full`)."""
    original = getattr(error, "orig", None)
    return (
        getattr(original, "sqlite_errorname", None) == "SQLITE_FULL"
        or getattr(original, "sqlstate", None) == "53100"
    )


def _sentence(error: Exception) -> str:
    """What the driver said, without the statement and its values (they hold a user's data)."""
    said = str(getattr(error, "orig", None) or error).strip().splitlines()
    return (
        f"The database does not answer as it should ({said[0] if said else type(error).__name__}). "
        "Nothing is lost: try again in a moment. If it stays so, check that the database of "
        "CLIPCITE_DATABASE_URL runs, that its disk has space and that this machine reaches it."
    )
