"""Keyset pagination of lists, newest first.

A cursor is a position in the order, not a row or a number of rows. Rows that are added or deleted meanwhile
shift nothing.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from sqlalchemy import Select, literal, tuple_
from sqlalchemy.orm import Session

from core.store.db.tables import Job, Model, UtcDateTime
from core.store.errors import InvalidCursor

Row = TypeVar("Row", Job, Model)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CURSOR = re.compile(r"([0-9]{1,16})-([0-9a-z_]{1,40})")


def cursor_of(row: Job | Model) -> str:
    """Return the row's position, `<microseconds since 1970>-<id>`, which is opaque to callers."""
    return f"{(row.created_at - EPOCH) // timedelta(microseconds=1)}-{row.id}"


def page(
    session: Session, rows: Select[Row], table: type[Row], *, owner: str, limit: int, after: str | None
) -> tuple[list[Row], bool]:
    """Return up to `limit` of the owner's `rows` after the cursor, and whether there are more.

    The cursor's row may be deleted.

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
    rows = rows.order_by(table.created_at.desc(), table.id.desc()).limit(limit + 1)
    selected = list(session.scalars(rows))
    return selected[:limit], len(selected) > limit
