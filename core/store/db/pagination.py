"""Keyset pagination of lists, newest first.

A cursor is a position in the order, not a row or a row number. So added and deleted rows do not shift pages.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import JSON, ColumnElement, Select, Text, cast, func, literal, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from core.store.db.base import UtcDateTime
from core.store.db.tables import Job, Model, Pile
from core.store.errors import InvalidCursor

Row = TypeVar("Row", Job, Model, Pile)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CURSOR = re.compile(r"([0-9]{1,16})-([0-9a-z_]{1,40})")
MAX_PAGE_BYTES = 4_000_000
"""Maximum JSON in the rows of a page (bytes). As objects it takes several times as much. A single row may
exceed it."""


def json_bytes(*columns: InstrumentedAttribute[Any]) -> ColumnElement[int]:
    """Return the size of stored JSON as an expression in SQL. JSON is stored as ASCII."""
    sizes = [func.coalesce(func.length(cast(column, Text)), 0) for column in columns]
    return sum(sizes[1:], sizes[0])


def cursor_of(row: Job | Model | Pile) -> str:
    """Return the row's position, `<microseconds since 1970>-<id>`. Callers must not parse it."""
    return f"{(row.created_at - EPOCH) // timedelta(microseconds=1)}-{row.id}"


def page(
    session: Session, rows: Select[Row], table: type[Row], *, owner: str, limit: int, after: str | None
) -> tuple[list[Row], bool]:
    """Return up to `limit` of the owner's `rows` after the cursor, and whether there are more.

    The cursor's row may have been deleted. A page ends early if its rows have much JSON.

    Raises:
        InvalidCursor: `after` is not a cursor.
    """
    rows = rows.where(table.owner == owner)
    if after is not None:
        cursor = CURSOR.fullmatch(after)
        if cursor is None:
            raise InvalidCursor(after)
        created_at = EPOCH + timedelta(microseconds=int(cursor[1]))
        # Rows of the same instant are ordered by id.
        rows = rows.where(
            tuple_(table.created_at, table.id)
            < tuple_(literal(created_at, UtcDateTime()), literal(cursor[2]))
        )
    order = table.created_at.desc(), table.id.desc()
    columns = [getattr(table, c.name) for c in table.__table__.columns if isinstance(c.type, JSON)]
    sizes = rows.with_only_columns(table.id, json_bytes(*columns)).order_by(*order).limit(limit + 1)
    selected = session.execute(sizes).all()
    ids: list[str] = []
    room = MAX_PAGE_BYTES
    for row_id, size in selected[:limit]:
        room -= size
        if ids and room < 0:
            break
        ids.append(row_id)
    shown = session.scalars(select(table).where(table.id.in_(ids)).order_by(*order)) if ids else ()
    return list(shown), len(selected) > len(ids)
