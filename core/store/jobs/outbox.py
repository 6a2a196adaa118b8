"""Transactional outbox: the transaction that publishes a model or ends a job inserts the webhook delivery.

Every committed change therefore has a delivery, and no delivery reports a change that was rolled back.
"""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from core.store.db.ids import new_id
from core.store.db.tables import Job, WebhookDelivery
from core.store.db.text import utc_text

MODEL_PUBLISHED = "model.published"


def enqueue_webhook(session: Session, job: Job, type: str, *, at: datetime) -> None:
    """Insert the delivery of a job's change, if the job has a webhook.

    `type` is MODEL_PUBLISHED or `job.` with the final status.
    """
    if job.webhook is None:
        return
    session.add(
        WebhookDelivery(
            id=new_id("msg"),
            job_id=job.id,
            body=_message(job, type, at),
            next_attempt_at=at,
        )
    )


def _message(job: Job, type: str, at: datetime) -> dict[str, Any]:
    error = None if job.error_code is None else {"code": job.error_code, "detail": job.error_detail}
    return {
        "type": type,
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
    return None if at is None else utc_text(at)
