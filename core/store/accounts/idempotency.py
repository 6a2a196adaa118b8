"""`Idempotency-Key`: a client that got no answer sends its request again, and makes no second job."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete
from sqlalchemy.orm import Session

from core.errors import ClipCiteError
from core.store.db.session import database_now
from core.store.db.tables import IdempotencyKey, Job

LIFETIME = timedelta(hours=24)


@dataclass(frozen=True)
class IdempotencyClaim:
    """A client's key, and a hash of what it asked for with it."""

    key: str
    fingerprint: str


class IdempotencyKeyReused(ClipCiteError):
    code = "idempotency_key_reused"
    status = 422

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key came with other images, labels or settings before. Use a new key for "
            "a new request; a retry must have the same content."
        )


class IdempotentJobGone(ClipCiteError):
    code = "idempotent_job_deleted"
    status = 409

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"The job {job_id!r} of this Idempotency-Key was deleted. Use a new key for a new job."
        )


def is_known(session: Session, owner: str, key: str) -> bool:
    return _row(session, owner, key) is not None


def find(session: Session, owner: str, once: IdempotencyClaim) -> Job | None:
    """The job of an earlier request with this key; None if there was none within 24 hours.

    Raises:
        IdempotencyKeyReused: it had another content.
        IdempotentJobGone: its job was deleted since.
    """
    row = _row(session, owner, once.key)
    if row is None:
        return None
    if row.fingerprint != once.fingerprint:
        raise IdempotencyKeyReused
    job = session.get(Job, row.job_id)
    if job is None:
        raise IdempotentJobGone(row.job_id)
    return job


def remember(session: Session, owner: str, once: IdempotencyClaim, job_id: str) -> None:
    """In the transaction that makes the job, with the owner locked, after `find` found none."""
    session.merge(  # in the place of one that is too old
        IdempotencyKey(
            owner=owner,
            key=once.key,
            fingerprint=once.fingerprint,
            job_id=job_id,
            created_at=database_now(session),
        )
    )
    session.flush()


def forget_old(session: Session) -> None:
    session.execute(
        delete(IdempotencyKey).where(IdempotencyKey.created_at < database_now(session) - LIFETIME)
    )


def _row(session: Session, owner: str, key: str) -> IdempotencyKey | None:
    row = session.get(IdempotencyKey, (owner, key))
    return row if row is not None and row.created_at > database_now(session) - LIFETIME else None
