"""SQLAlchemy engines for SQLite and PostgreSQL, with settings for durability and timeouts."""

import json
import math
from typing import Any

from psycopg.errors import ReadOnlySqlTransaction
from sqlalchemy import Connection, Engine, ExceptionContext, NullPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from core.store.db.client_timeout import be_patient
from core.store.errors import DatabaseUnavailable

LIMITS = {"statement_timeout": 5_000, "lock_timeout": 2_000, "idle_in_transaction_session_timeout": 10_000}
"""Time limits on PostgreSQL (milliseconds)."""
CONNECT_SECONDS = 3
"""Timeout for a new connection to PostgreSQL."""
POOL_SECONDS = 2
"""Timeout for a pooled connection. It is below CONNECT_SECONDS, so that waits for a hanging server don't add
up."""
MAX_CONNECTIONS = 8
"""Maximum number of connections of each process to PostgreSQL."""
BUSY_MILLISECONDS = 5_000
"""Timeout for SQLite's lock."""


def make_engine(url: str, *, migrating: bool = False) -> Engine:
    """Return an engine for the database at the URL.

    Args:
        url: SQLAlchemy URL.
        migrating: disable time limits on PostgreSQL. Disable foreign keys on SQLite, where a migration copies
            a table and drops the old one.

    Raises:
        DatabaseUnavailable: the URL is invalid, or of an unsupported database.
    """
    try:
        kind = make_url(url).get_backend_name()
        if kind == "sqlite":
            return _sqlite(url, migrating)
        if kind == "postgresql":
            return _postgresql(url, migrating)
    except (ArgumentError, NoSuchModuleError, ImportError):
        kind = "something else"
    # Never quote the URL, because it may contain a password.
    raise DatabaseUnavailable(
        f"CLIPCITE_DATABASE_URL must be sqlite:///path or postgresql://user:password@host/name, not {kind}."
    )


def _sqlite(url: str, migrating: bool) -> Engine:
    options: dict[str, Any] = {"poolclass": NullPool} if migrating else {"pool_size": 10, "max_overflow": 20}
    engine = create_engine(url, json_serializer=_json, hide_parameters=True, **options)

    @event.listens_for(engine, "connect")
    def connected(connection: Any, record: object) -> None:
        connection.isolation_level = None  # transactions begin below, not in the driver
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {60_000 if migrating else BUSY_MILLISECONDS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")  # accepted jobs survive a power cut
        cursor.execute(f"PRAGMA foreign_keys = {'OFF' if migrating else 'ON'}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        immediate = "BEGIN IMMEDIATE" if migrating else "BEGIN"
        connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", immediate))

    return engine


def _postgresql(url: str, migrating: bool) -> Engine:
    arguments: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "clipcite",
        # The client notices a lost server within the lease of a job.
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }
    if migrating:
        return create_engine(url, json_serializer=_json, poolclass=NullPool, connect_args=arguments)
    arguments["options"] = " ".join(f"-c {name}={limit}" for name, limit in LIMITS.items())
    engine = create_engine(
        url,
        json_serializer=_json,
        hide_parameters=True,  # errors would quote users' data
        connect_args=arguments,
        pool_size=MAX_CONNECTIONS,
        max_overflow=0,
        pool_use_lifo=True,  # recently used connections need no check
        pool_timeout=POOL_SECONDS,
    )
    be_patient(engine)

    @event.listens_for(engine, "handle_error")
    def failed(context: ExceptionContext) -> None:
        if isinstance(context.original_exception, ReadOnlySqlTransaction):
            # After a failover, only a new connection reaches the server that can write.
            context.is_disconnect = True

    return engine


def _json(value: Any) -> str:
    """Encode as strict JSON. NaN and infinity, which a loss may be, become null."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
