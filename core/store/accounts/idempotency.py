"""Idempotency keys: a client that lost a response can retry without creating a second job."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete
from sqlalchemy.orm import Session

from core.errors import ExpectedError
from core.store.db.session import database_now
from core.store.db.tables import IdempotencyKey, Job

LIFETIME = timedelta(hours=24)


@dataclass(frozen=True)
class IdempotencyClaim:
    """A client's idempotency key with the fingerprint of its request."""

    key: str
    fingerprint: str


class IdempotencyKeyReused(ExpectedError):
    code = "idempotency_key_reused"
    status = 422

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key was used with other images, labels or settings before. Use a new key for a "
            "new request. A retry must have the same content."
        )


class IdempotentJobGone(ExpectedError):
    code = "idempotent_job_deleted"
    status = 409

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"The job {job_id!r} of this Idempotency-Key was deleted. Use a new key for a new job."
        )


def find(session: Session, owner: str, claim: IdempotencyClaim) -> Job | None:
    """Return the job that a request with this key created in the last 24 hours, or None.

    Raises:
        IdempotencyKeyReused: the content of that request differs.
        IdempotentJobGone: the job was deleted.
    """
    row = session.get(IdempotencyKey, (owner, claim.key))
    if row is None or row.created_at <= database_now(session) - LIFETIME:
        return None
    if row.fingerprint != claim.fingerprint:
        raise IdempotencyKeyReused
    job = session.get(Job, row.job_id)
    if job is None:
        raise IdempotentJobGone(row.job_id)
    return job


def remember(session: Session, owner: str, claim: IdempotencyClaim, job_id: str) -> None:
    """Store the key in the transaction that creates the job, after `find`. The owner must be locked."""
    session.merge(  # replaces an expired row
        IdempotencyKey(
            owner=owner,
            key=claim.key,
            fingerprint=claim.fingerprint,
            job_id=job_id,
            created_at=database_now(session),
        )
    )
    session.flush()


def forget_old(session: Session) -> None:
    """Delete keys that are older than 24 hours."""
    session.execute(
        delete(IdempotencyKey).where(IdempotencyKey.created_at < database_now(session) - LIFETIME)
    )
