"""API keys: 32 random bytes. Only their SHA-256 is stored.

A key authorises its holder to act for its owner, within its scopes.
"""

import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from sqlalchemy import exists, or_, select, update
from sqlalchemy.orm import Session

from core.errors import ExpectedError
from core.store.accounts import audit, owners
from core.store.db.ids import new_id
from core.store.db.session import database_now, now_column
from core.store.db.tables import ApiKey
from core.store.db.text import sanitize_text

CLASSIFY, ADAPT, ADMIN = "classify", "adapt", "admin"
SCOPES = (CLASSIFY, ADAPT, ADMIN)
LAST_USED_STEP = timedelta(minutes=1)
PREFIX_LENGTH = 11
_FORM = re.compile(r"cc_[A-Za-z0-9_-]{43}")


class KeyRefused(ExpectedError):
    """The key is revoked or expired. Only its holder gets this error."""

    status = 401

    def __init__(self, code: str, detail: str, key_id: str) -> None:
        super().__init__(f"{detail} Ask the operator for another key (`clipcite keys create`).")
        self.code = code
        self.key_id = key_id


class InvalidScopes(ExpectedError):
    code = "invalid_scopes"
    status = 422


class KeyNotFound(ExpectedError):
    code = "key_not_found"
    status = 404


@dataclass(frozen=True)
class NewKey:
    """Row of a new key, and the key itself, which can't be read again later."""

    row: ApiKey
    key: str


def create(
    session: Session,
    *,
    owner: str,
    scopes: Collection[str] = (CLASSIFY, ADAPT),
    name: str | None = None,
    lifetime: timedelta | None = None,
) -> NewKey:
    """Create a key. A new owner is created too.

    Raises:
        InvalidOwner: the owner's name is invalid.
        InvalidScopes: a scope is unknown, or none is given.
    """
    if not scopes or not set(scopes) <= set(SCOPES):
        raise InvalidScopes(f"The scopes of the key are invalid. Use one or more of {', '.join(SCOPES)}.")
    owners.ensure(session, owner)
    key = f"cc_{urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b'=').decode()}"
    at = database_now(session)
    row = ApiKey(
        id=new_id("key"),
        owner=owner,
        name=None if name is None else sanitize_text(name),
        prefix=key[:PREFIX_LENGTH],
        sha256=_hash(key),
        scopes=[scope for scope in SCOPES if scope in scopes],
        created_at=at,
        expires_at=None if lifetime is None else at + lifetime,
        created_by=audit.actor().key_id,
    )
    session.add(row)
    session.flush()
    return NewKey(row, key)


def is_formed(text: str) -> bool:
    """Return whether the text has the format of a key. This saves a query for anything else."""
    return _FORM.fullmatch(text) is not None


def find(session: Session, key: str) -> ApiKey | None:
    """Return the row of a valid key, or None if the key is unknown.

    The query compares hashes, so its duration reveals nothing about existing keys.

    Raises:
        KeyRefused: the key is revoked or expired.
    """
    # One statement reads the row and the time, because every request executes it.
    found = session.execute(select(ApiKey, now_column(session)).where(ApiKey.sha256 == _hash(key))).first()
    if found is None:
        return None
    row, at = found
    if row.revoked_at is not None:
        raise KeyRefused("key_revoked", f"This key was revoked on {row.revoked_at:%Y-%m-%d}.", row.id)
    if row.expires_at is not None and row.expires_at <= at:
        raise KeyRefused("key_expired", f"This key expired on {row.expires_at:%Y-%m-%d %H:%M} UTC.", row.id)
    return row


def is_stale(row: ApiKey) -> bool:
    """Return whether the key's last use was recorded more than a minute ago, by this machine's clock."""
    return row.last_used_at is None or row.last_used_at < datetime.now(UTC) - LAST_USED_STEP


def record_use(session: Session, key_id: str) -> None:
    """Record a use of the key, at most once per minute."""
    at = database_now(session)
    stale = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < at - LAST_USED_STEP)
    session.execute(update(ApiKey).where(ApiKey.id == key_id, stale).values(last_used_at=at))


def any_made(session: Session) -> bool:
    """Return whether a key exists or existed. The service stays closed after the last key has ended."""
    return bool(session.scalar(select(exists(select(ApiKey.id)))))


def any_good(session: Session) -> bool:
    """Return whether there is a valid key."""
    unexpired = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > database_now(session))
    return bool(
        session.scalar(select(exists(select(ApiKey.id).where(ApiKey.revoked_at.is_(None), unexpired))))
    )


def list_all(session: Session, owner: str | None = None) -> list[ApiKey]:
    """Return the keys of the owner, or of all owners, oldest first."""
    rows = select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)
    return list(session.scalars(rows if owner is None else rows.where(ApiKey.owner == owner)))


def revoke(session: Session, key_id: str) -> ApiKey:
    """Revoke a key and return its row. The revocation applies from the commit. Repeated calls change nothing.

    Args:
        key_id: the key's id, or its prefix if no other key shares it.

    Raises:
        KeyNotFound: no key matches, or several do.
    """
    row = _locked(session, key_id)
    if row.revoked_at is None:
        row.revoked_at = database_now(session)
        session.flush()
    return row


def _locked(session: Session, key_id: str) -> ApiKey:
    wanted = sanitize_text(key_id)
    rows = session.scalars(
        select(ApiKey)
        .where(or_(ApiKey.id == wanted, ApiKey.prefix == wanted[:PREFIX_LENGTH]))
        .with_for_update()
    ).all()
    if len(rows) > 1:
        raise KeyNotFound(f"Several keys begin with {key_id!r}. Give an id that `clipcite keys list` shows.")
    if not rows:
        raise KeyNotFound(f"There is no key with the id {key_id!r}. `clipcite keys list` shows all keys.")
    return rows[0]


def _hash(key: str) -> str:
    """Return the SHA-256. A slow hash is unnecessary, because nobody can guess 256 random bits."""
    return sha256(key.encode()).hexdigest()
