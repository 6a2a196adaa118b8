"""Transactional outbox: the transaction that ends a job inserts the delivery to its webhook.

Every committed end therefore has a delivery, and no delivery reports an end that was rolled back.
"""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from core.store.db.ids import new_id
from core.store.db.tables import Job, WebhookDelivery


def enqueue_webhook(session: Session, job: Job, *, at: datetime) -> None:
    """Insert the delivery for a job that has just ended, if it has a webhook."""
    if job.webhook is None:
        return
    session.add(
        WebhookDelivery(
            id=new_id("msg"),
            job_id=job.id,
            owner=job.owner,
            url=job.webhook,
            body=_message(job, at),
            attempts=0,
            created_at=at,
            next_attempt_at=at,
        )
    )


def _message(job: Job, at: datetime) -> dict[str, Any]:
    error = None if job.error_code is None else {"code": job.error_code, "detail": job.error_detail}
    return {
        "type": f"job.{job.status}",
        "timestamp": _time(at),
        "data": {
            "id": job.id,
            "object": "job",
            "name": job.name,
            "status": job.status,
            "created_at": _time(job.created_at),
            "started_at": _time(job.started_at),
            "finished_at": _time(job.finished_at),
            "attempts": job.attempts,
            "model_id": job.model_id,
            "metrics": job.metrics,
            "error": error,
        },
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")
