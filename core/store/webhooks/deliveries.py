"""Webhooks: signing secrets, and deliveries. The row of a delivery goes at its end; its events stay."""

import secrets as random_source
from base64 import b64encode
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from core.store.accounts import owners
from core.store.db.ids import new_id
from core.store.db.session import database_now
from core.store.db.tables import Job
from core.store.db.text import sanitize_text, utc_text
from core.store.db.webhook_tables import WebhookDelivery, WebhookSecret
from core.store.jobs.transitions import append_event

CLAIMED = timedelta(minutes=2)
"""Time for which a claimed delivery is not sent again. It is longer than any attempt."""
PER_OWNER = 4
"""Maximum concurrent deliveries per owner, so that a hanging receiver does not delay other owners."""
DELIVERED, FAILED = "webhook_delivered", "webhook_failed"


@dataclass(frozen=True)
class Delivery:
    """Claimed attempt of a delivery."""

    id: str
    """Id that is the same for every attempt, so that receivers can detect duplicates."""
    job_id: str
    owner: str
    url: str
    body: dict[str, Any]
    attempt: int
    secret: str
    request_id: str | None = None
    """Id of the request that created the job."""


def secret(session: Session, owner: str, *, rotate: bool = False) -> WebhookSecret:
    """Return the owner's secret. Create one if there is none, or to replace the old one with `rotate`.

    Raises:
        InvalidOwner: the owner's name is invalid.
    """
    owners.ensure(session, owner)
    owners.lock(session, owner)
    newest_first = WebhookSecret.created_at.desc(), WebhookSecret.id.desc()
    rows = select(WebhookSecret).where(WebhookSecret.owner == owner).order_by(*newest_first)
    current = session.scalars(rows.limit(1)).one_or_none()
    if current is not None and not rotate:
        return current
    session.execute(delete(WebhookSecret).where(WebhookSecret.owner == owner))
    new = WebhookSecret(
        id=new_id("whs"),
        owner=owner,
        secret=f"whsec_{b64encode(random_source.token_bytes(32)).decode()}",
        created_at=database_now(session),
    )
    session.add(new)
    session.flush()
    return new


def any_due(session: Session) -> bool:
    """Return whether a delivery is due."""
    due = select(WebhookDelivery.id).where(WebhookDelivery.next_attempt_at <= database_now(session))
    return session.scalar(due.limit(1)) is not None


def take_due(session: Session, *, limit: int, busy: Collection[str] = ()) -> list[Delivery]:
    """Claim deliveries to send now, the longest due first, without those of the owners in `busy`.

    The attempt is counted before it is made, so that one that ends with the process counts too.
    """
    at = database_now(session)
    rank = func.row_number().over(
        partition_by=WebhookDelivery.owner, order_by=(WebhookDelivery.next_attempt_at, WebhookDelivery.id)
    )
    due = (
        select(WebhookDelivery.id, WebhookDelivery.next_attempt_at.label("since"), rank.label("rank"))
        .where(WebhookDelivery.next_attempt_at <= at, WebhookDelivery.owner.not_in(busy))
        .subquery()
    )
    chosen = select(due.c.id).where(due.c.rank <= PER_OWNER).order_by(due.c.since, due.c.id).limit(limit)
    ids = session.scalars(chosen).all()
    rows = session.scalars(
        select(WebhookDelivery)
        .where(WebhookDelivery.id.in_(ids), WebhookDelivery.next_attempt_at <= at)
        .with_for_update(skip_locked=True),
        execution_options={"populate_existing": True},
    ).all()
    requests = select(Job.id, Job.request_id).where(Job.id.in_({row.job_id for row in rows}))
    request_ids = {job_id: request_id for job_id, request_id in session.execute(requests)}
    owned = select(WebhookSecret).where(WebhookSecret.owner.in_({row.owner for row in rows}))
    keys = {row.owner: row.secret for row in session.scalars(owned.order_by(WebhookSecret.created_at))}
    taken = []
    for row in rows:
        row.attempts += 1
        row.next_attempt_at = at + CLAIMED
        key, request_id = keys[row.owner], request_ids.get(row.job_id)
        taken.append(
            Delivery(row.id, row.job_id, row.owner, row.url, row.body, row.attempts, key, request_id)
        )
    session.flush()
    return taken


def record_delivered(session: Session, delivery: Delivery, *, status: int) -> None:
    """Record that the receiver accepted the delivery."""
    row = _locked(session, delivery)
    if row is not None:
        session.delete(row)
        data = {**_named(delivery), "status": status}
        append_event(session, delivery.job_id, at=database_now(session), type=DELIVERED, data=data)


def record_failed(session: Session, delivery: Delivery, *, reason: str, delay: timedelta | None) -> None:
    """Record a failed attempt. The next one follows after `delay`; None gives up."""
    row = _locked(session, delivery)
    if row is None:
        return
    at = database_now(session)
    data = {**_named(delivery), "reason": sanitize_text(reason), "next_attempt_at": None}
    if delay is None:
        session.delete(row)
    else:
        row.next_attempt_at = at + delay
        data["next_attempt_at"] = utc_text(at + delay, "seconds")
    append_event(session, delivery.job_id, at=at, type=FAILED, data=data)


def _named(delivery: Delivery) -> dict[str, Any]:
    return {"webhook_id": delivery.id, "type": delivery.body["type"], "attempt": delivery.attempt}


def _locked(session: Session, delivery: Delivery) -> WebhookDelivery | None:
    """Return the delivery's row, locked, if this is still the current attempt.

    The job is locked first, as when a job is deleted, to avoid deadlocks. The event needs this lock too.
    """
    session.execute(select(Job.id).where(Job.id == delivery.job_id).with_for_update())
    same = WebhookDelivery.id == delivery.id, WebhookDelivery.attempts == delivery.attempt
    return session.scalars(
        select(WebhookDelivery).where(*same).with_for_update(), execution_options={"populate_existing": True}
    ).one_or_none()
