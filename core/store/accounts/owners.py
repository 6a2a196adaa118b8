"""Owners: the tenants to which jobs, models and keys belong."""

import re

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.errors import ExpectedError
from core.store.db.ids import new_webhook_secret
from core.store.db.session import database_now
from core.store.db.tables import Owner

DEFAULT_OWNER = "default"
"""Owner of requests without a key, or with CLIPCITE_ADMIN_KEY."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class InvalidOwner(ExpectedError):
    code = "invalid_owner"
    status = 422


def ensure(session: Session, name: str) -> None:
    """Create the owner if it does not exist. Raise InvalidOwner if the name is invalid."""
    if not _NAME.fullmatch(name):
        raise InvalidOwner(
            f"The owner's name {name!r} is invalid. Use 1 to 64 of a-z, 0-9, '.', '_' and '-', with a letter "
            "or a digit first."
        )
    if session.get(Owner, name) is None:
        session.add(Owner(name=name, created_at=database_now(session)))
        session.flush()


def webhook_secret(session: Session, name: str, *, replace: bool = False) -> str:
    """Return the secret that signs the owner's webhooks. A new owner is created.

    Args:
        replace: create a new secret. The old one no longer signs.

    Raises:
        InvalidOwner: the name is invalid.
    """
    ensure(session, name)
    row = lock(session, name)
    if replace:
        row.webhook_secret = new_webhook_secret()
    return row.webhook_secret


def lock(session: Session, name: str) -> Owner:
    """Lock the owner's row until the transaction ends, so that no other transaction creates or starts a job.

    The lock is `FOR NO KEY UPDATE`, so rows that refer to the owner can still be written.
    """
    return session.scalars(
        select(Owner).where(Owner.name == name).with_for_update(key_share=True),
        execution_options={"populate_existing": True},
    ).one()
