"""Webhooks: the secrets that they are signed with, and the deliveries that are still to be made. What
became of a delivery is an event of its job; its row is gone then."""

import secrets as random_source
from base64 import b64encode
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, or_, select
from sqlalchemy.orm import Session

from core.store.accounts import owners
from core.store.db.ids import new_id
from core.store.db.session import database_now
from core.store.db.tables import Job, WebhookDelivery, WebhookSecret
from core.store.jobs.transitions import append_event

ROTATION = timedelta(hours=24)
"""For so long a secret that was replaced signs beside the new one."""
CLAIMED = timedelta(minutes=2)
"""Longer than any attempt takes; if nobody says what became of it, it is made again."""
PER_OWNER = 4
"""Deliveries of one owner at a time: those to a receiver that hangs keep no others waiting."""
DELIVERED, FAILED = "webhook_delivered", "webhook_failed"


@dataclass(frozen=True)
class Delivery:
    """One attempt that is to be made now."""

    id: str
    """The same at every attempt: by it a receiver tells what it has had already."""
    job_id: str
    owner: str
    url: str
    body: dict[str, Any]
    attempt: int
    secrets: list[str]


def secret(session: Session, owner: str, *, rotate: bool = False) -> WebhookSecret:
    """The owner's, made if there is none; a new one with `rotate`. Raises InvalidOwner."""
    owners.ensure(session, owner)
    owners.lock(session, owner)
    at = database_now(session)
    found = good(session, owner, at)
    current = next((row for row in found if row.expires_at is None), None)
    if current is not None and not rotate:
        return current
    session.execute(delete(WebhookSecret).where(WebhookSecret.expires_at <= at))
    if current is not None:
        current.expires_at = at + ROTATION
    made = WebhookSecret(
        id=new_id("whs"),
        owner=owner,
        secret=f"whsec_{b64encode(random_source.token_bytes(32)).decode()}",
        created_at=at,
    )
    session.add(made)
    session.flush()
    return made


def good(session: Session, owner: str, at: datetime) -> list[WebhookSecret]:
    """The secrets to sign with at that time, newest first."""
    unexpired = or_(WebhookSecret.expires_at.is_(None), WebhookSecret.expires_at > at)
    rows = select(WebhookSecret).where(WebhookSecret.owner == owner, unexpired)
    return list(session.scalars(rows.order_by(WebhookSecret.created_at.desc(), WebhookSecret.id.desc())))


def any_due(session: Session) -> bool:
    due = select(WebhookDelivery.id).where(WebhookDelivery.next_attempt_at <= database_now(session))
    return session.scalar(due.limit(1)) is not None


def take_due(session: Session, *, limit: int, busy: Collection[str] = ()) -> list[Delivery]:
    """What to send now, the longest due first, and nothing of the owners in `busy`. Counted as an
    attempt already: one that ends with this process was one too."""
    at = database_now(session)
    place = func.row_number().over(
        partition_by=WebhookDelivery.owner, order_by=(WebhookDelivery.next_attempt_at, WebhookDelivery.id)
    )
    due = (
        select(WebhookDelivery.id, WebhookDelivery.next_attempt_at.label("since"), place.label("place"))
        .where(WebhookDelivery.next_attempt_at <= at, WebhookDelivery.owner.not_in(busy))
        .subquery()
    )
    chosen = select(due.c.id).where(due.c.place <= PER_OWNER).order_by(due.c.since, due.c.id).limit(limit)
    ids = session.scalars(chosen).all()
    rows = session.scalars(
        select(WebhookDelivery)
        .where(WebhookDelivery.id.in_(ids), WebhookDelivery.next_attempt_at <= at)
        .with_for_update(skip_locked=True),
        execution_options={"populate_existing": True},
    ).all()
    taken = []
    for row in rows:
        row.attempts += 1
        row.next_attempt_at = at + CLAIMED
        keys = [good.secret for good in good(session, row.owner, at)]
        taken.append(Delivery(row.id, row.job_id, row.owner, row.url, row.body, row.attempts, keys))
    session.flush()
    return taken


def record_delivered(session: Session, delivery: Delivery, *, status: int) -> None:
    """The receiver has it: the row goes."""
    if _ended(session, delivery):
        data = {"webhook_id": delivery.id, "attempt": delivery.attempt, "status": status}
        append_event(session, delivery.job_id, at=database_now(session), type=DELIVERED, data=data)


def record_failed(session: Session, delivery: Delivery, *, reason: str, delay: timedelta | None) -> None:
    """The receiver did not take it: again after the delay, or never (None)."""
    at = database_now(session)
    again = None if delay is None else at + delay
    if again is None:
        known = _ended(session, delivery)
    else:
        row = _locked(session, delivery)
        known = row is not None
        if row is not None:
            row.next_attempt_at = again
    if known:
        data = {
            "webhook_id": delivery.id,
            "attempt": delivery.attempt,
            "reason": reason,
            "next_attempt_at": again and again.isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
        append_event(session, delivery.job_id, at=at, type=FAILED, data=data)


def _ended(session: Session, delivery: Delivery) -> bool:
    """Whether its row was there, and is gone now."""
    row = _locked(session, delivery)
    if row is None:
        return False
    session.delete(row)
    session.flush()
    return True


def _locked(session: Session, delivery: Delivery) -> WebhookDelivery | None:
    """Its row, if this is still the attempt that counts. The job first, since that is the order in which
    a deletion of the job takes them; locked it must be for the event."""
    session.execute(select(Job.id).where(Job.id == delivery.job_id).with_for_update())
    same = (WebhookDelivery.id == delivery.id, WebhookDelivery.attempts == delivery.attempt)
    return session.scalars(
        select(WebhookDelivery).where(*same).with_for_update(), execution_options={"populate_existing": True}
    ).one_or_none()
