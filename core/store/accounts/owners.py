"""Owners: whose jobs and models they are, and how much of the service they may take."""

import re
from datetime import datetime

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from core.errors import ClipCiteError
from core.store.db.session import database_now
from core.store.db.tables import Job, Owner

DEFAULT_OWNER = "default"
"""Of everything that comes in without a key, or with CLIPCITE_API_KEY."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class InvalidOwner(ClipCiteError):
    code = "invalid_owner"
    status = 422


def ensure(session: Session, name: str) -> None:
    """Make the owner if they are new. Raises InvalidOwner."""
    if not _NAME.fullmatch(name):
        raise InvalidOwner(
            f"An owner's name is 1 to 64 of a-z, 0-9, '.', '_' and '-' and begins with a letter or a digit; "
            f"{name!r} is none."
        )
    if session.get(Owner, name) is None:
        session.add(Owner(name=name, created_at=database_now(session)))
        session.flush()


def lock(session: Session, name: str) -> Owner:
    """Until this transaction ends no other admits or starts a job of theirs.

    Not the strongest lock: rows that refer to the owner's may be written meanwhile.
    """
    return session.scalars(
        select(Owner).where(Owner.name == name).with_for_update(key_share=True),
        execution_options={"populate_existing": True},
    ).one()


def due(at: datetime, lost_before: datetime) -> tuple[ColumnElement[bool], ...]:
    """Conditions for a queued job to be sent now: it may start, and no message of it is on its way."""
    return Job.available_at <= at, or_(Job.dispatched_at.is_(None), Job.dispatched_at <= lost_before)
