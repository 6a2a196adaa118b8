"""Base of the database tables: names of constraints, and column types."""

from datetime import UTC, datetime

from sqlalchemy import JSON, DateTime, Dialect, Index, MetaData, String, TypeDecorator, text
from sqlalchemy.orm import DeclarativeBase

# Migrations can change a constraint only by its name, even on SQLite.
NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """Column type of aware datetimes in UTC. SQLite stores them as text that sorts by time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"The time {value!r} has no time zone.")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# None is stored as SQL's NULL, never as JSON's null, so queries need only one test.
JSON_VALUE = JSON(none_as_null=True)
ID = String(40)
NAME = String(64)


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMES)


def partial_index(where: str, *columns: str) -> Index:
    """Return an index of the rows that satisfy a condition."""
    return Index(None, *columns, postgresql_where=text(where), sqlite_where=text(where))
