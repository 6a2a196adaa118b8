"""Lists, newest first, a page at a time. A page goes on after a row, not after a number of rows:
what is added or deleted meanwhile shifts nothing."""

from typing import TypeVar

from sqlalchemy import Select, literal, select, tuple_
from sqlalchemy.orm import Session

from core.store.errors import InvalidCursor
from core.store.tables import Job, Model, UtcDateTime
from core.store.transitions import storable

Row = TypeVar("Row", Job, Model)


def page(
    session: Session, rows: Select[Row], table: type[Row], *, owner: str, limit: int, after: str | None
) -> tuple[list[Row], bool]:
    """Up to `limit` of the owner's `rows` that come after the row with the id `after`, and whether
    there are more."""
    rows = rows.where(table.owner == owner)
    if after is not None:
        named = select(table).where(table.id == storable(after), table.owner == owner)
        last = session.scalars(named).one_or_none()
        if last is None:
            raise InvalidCursor(after)
        # Two rows of the same instant have an order too, by their ids.
        rows = rows.where(
            tuple_(table.created_at, table.id)
            < tuple_(literal(last.created_at, UtcDateTime()), literal(last.id))
        )
    rows = rows.order_by(table.created_at.desc(), table.id.desc()).limit(limit + 1)
    found = list(session.scalars(rows))
    return found[:limit], len(found) > limit
