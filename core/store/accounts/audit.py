"""Audit log: who changed what, when, from where. The row is written in the transaction of the change.

An entry has ids and names of models, but no secrets and no names of images or classes.
"""

import getpass
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.store.accounts.owners import DEFAULT_OWNER
from core.store.db.ids import new_id
from core.store.db.session import database_now
from core.store.db.tables import AuditEntry
from core.store.db.text import sanitize_text

DONE = "done"


@dataclass(frozen=True)
class Actor:
    """Author of a change."""

    owner: str
    key_id: str
    """Id of the key, `token`, or `local:` with the name of the machine's user for a command."""
    request_id: str | None = None
    address: str | None = None
    """Address of the client. None: a command on the machine of the service."""


_actor: ContextVar[Actor | None] = ContextVar("actor", default=None)


def act_as(actor: Actor) -> None:
    """Set the actor of all later changes of this task. Threads that copy its context act for it too."""
    _actor.set(actor)


def actor() -> Actor:
    """Return the present actor, which is a command unless the API has set one."""
    return _actor.get() or Actor(DEFAULT_OWNER, f"local:{_user()}")


def record(session: Session, action: str, object: str, *, owner: str | None = None) -> None:
    """Write the entry of a change, to be committed or rolled back with it.

    A request that changes nothing must write nothing: repeated, it would fill the log.

    Args:
        action: kind of object and verb, such as `job.cancel`.
        object: id or name of what was changed.
        owner: owner of the object (default: the actor's).
    """
    who = actor()
    session.add(
        AuditEntry(
            id=new_id("aud"),
            at=database_now(session),
            owner=owner or who.owner,
            key_id=who.key_id,
            request_id=who.request_id,
            action=action,
            object=sanitize_text(object),
            outcome=DONE,
            address=who.address,
        )
    )


def list_newest(
    session: Session, *, limit: int, owner: str | None = None, object: str | None = None
) -> Sequence[AuditEntry]:
    """Return the newest entries of an owner and about an object, oldest first."""
    rows = select(AuditEntry)
    if owner is not None:
        rows = rows.where(AuditEntry.owner == owner)
    if object is not None:
        rows = rows.where(AuditEntry.object == object)
    newest = rows.order_by(AuditEntry.at.desc(), AuditEntry.id.desc()).limit(limit)
    return session.scalars(newest).all()[::-1]


def _user() -> str:
    try:
        return getpass.getuser()[:64]
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
