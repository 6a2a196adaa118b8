"""Lists, newest first, a page at a time.

A page goes on after a place in the order, not after a number of rows or a row: rows that are added
or deleted meanwhile shift nothing.
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
    """The place of this row in its list, `<microseconds since 1970>-<id>`; opaque to callers."""
    return f"{(row.created_at - EPOCH) // timedelta(microseconds=1)}-{row.id}"


def page(
    session: Session, rows: Select[Row], table: type[Row], *, owner: str, limit: int, after: str | None
) -> tuple[list[Row], bool]:
    """Up to `limit` of the owner's `rows` after the place `after`, and whether there are more.

    Raises InvalidCursor: `after` is none of `cursor_of`. Its row may be gone.
    """
    rows = rows.where(table.owner == owner)
    if after is not None:
        place = CURSOR.fullmatch(after)
        if place is None:
            raise InvalidCursor(after)
        created_at = EPOCH + timedelta(microseconds=int(place[1]))
        # Two rows of the same instant have an order too, by their ids.
        rows = rows.where(
            tuple_(table.created_at, table.id) < tuple_(literal(created_at, UtcDateTime()), literal(place[2]))
        )
    rows = rows.order_by(table.created_at.desc(), table.id.desc()).limit(limit + 1)
    found = list(session.scalars(rows))
    return found[:limit], len(found) > limit
