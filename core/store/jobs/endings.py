"""Ends of jobs and of leases. A job with a model can only succeed: then its evaluation is what fails."""

from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.store.db.tables import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED, Job
from core.store.db.text import sanitize_text
from core.store.jobs.transitions import append_event, finished_values, transition
from core.store.registry.models import set_metrics
from core.store.storage import deletions

CHECKPOINT, RESUMED = "checkpoint", "resumed"
"""Events of a stored checkpoint, and of an attempt that goes on from one."""
EVALUATION_FAILED, EVALUATION_CANCELLED = "evaluation_failed", "evaluation_cancelled"
EVALUATION_SKIPPED = (EVALUATION_FAILED, EVALUATION_CANCELLED)
"""Notices of a job that has a model but no evaluation."""


def checkpoints_of(job_id: str) -> str:
    """Return the folder of a job's checkpoints. Deleting the job's folder deletes it, too."""
    return f"jobs/{job_id}/checkpoints"


def mark_checkpoints(session: Session, job: Job) -> None:
    """Mark the job's checkpoints, if any, for deletion. Call this in the transaction that ends the job."""
    if job.started_at is not None:
        deletions.mark_for_deletion(session, checkpoints_of(job.id))


def end_lease(
    session: Session,
    job: Job,
    *,
    at: datetime,
    attempts: int,
    exhausted: bool,
    code: str,
    detail: str,
) -> Job | None:
    """End the lease of a running job: cancel it if requested, fail it if `exhausted`, else requeue it."""
    if job.cancel_requested:
        return cancel(session, job.id, token=job.lease_token, before=RUNNING, at=at)
    if exhausted:
        return fail(session, job.id, token=job.lease_token, code=code, detail=detail, at=at)
    return transition(
        session,
        job.id,
        at=at,
        before=RUNNING,
        token=job.lease_token,
        event="requeued",
        data={"reason": code, "detail": sanitize_text(detail)},
        status=QUEUED,
        attempts=attempts,
        lease_token=None,
        lease_expires_at=None,
        worker=None,
        progress=None,
        available_at=at,
        dispatched_at=None,
    )


def fail(
    session: Session, job_id: str, *, token: str | None, code: str, detail: str, at: datetime
) -> Job | None:
    """End a running job as failed. If it has a model, only its evaluation has failed, and it has succeeded.

    Return None if the lease is not `token`'s.
    """
    error = {"code": sanitize_text(code)[:64], "detail": sanitize_text(detail)}
    failed = transition(
        session,
        job_id,
        Job.model_id.is_(None),
        at=at,
        before=RUNNING,
        token=token,
        event="failed",
        data=error,
        status=FAILED,
        error_code=error["code"],
        error_detail=error["detail"],
        **finished_values(at),
    )
    if failed is not None:
        mark_checkpoints(session, failed)
        return failed
    detail = f"The model is ready, but it was not evaluated. {error['detail']}"
    return _skip_evaluation(session, job_id, EVALUATION_FAILED, detail, token=token, before=RUNNING, at=at)


def cancel(session: Session, job_id: str, *, token: str | None, before: str, at: datetime) -> Job | None:
    """End a job as cancelled. If it has a model, only its evaluation is cancelled, and it has succeeded.

    Return None if its status is not `before`.
    """
    cancelled = transition(
        session,
        job_id,
        Job.model_id.is_(None),
        at=at,
        before=before,
        token=token,
        event="cancelled",
        status=CANCELLED,
        cancel_requested=True,
        **finished_values(at),
    )
    if cancelled is not None:
        mark_checkpoints(session, cancelled)
        return cancelled
    detail = "The model is ready. Its evaluation was cancelled, so it has no report."
    return _skip_evaluation(session, job_id, EVALUATION_CANCELLED, detail, token=token, before=before, at=at)


def _skip_evaluation(
    session: Session,
    job_id: str,
    code: str,
    detail: str,
    *,
    token: str | None,
    before: str,
    at: datetime,
) -> Job | None:
    """End a job with a model as succeeded, without an evaluation and with a notice."""
    held = select(Job).where(Job.id == job_id, Job.status == before, Job.model_id.is_not(None))
    if token is not None:
        held = held.where(Job.lease_token == token)
    job = session.scalars(held.with_for_update(), execution_options={"populate_existing": True}).one_or_none()
    if job is None:
        return None
    notice = {"code": code, "detail": detail}
    append_event(session, job_id, at=at, type="warning", data=notice)
    return succeed(
        session,
        job_id,
        token=token,
        before=before,
        metrics={**(job.metrics or {}), "verdict": "not_evaluated"},
        warnings=[*job.warnings, notice],
        cancel_requested=job.cancel_requested or code == EVALUATION_CANCELLED,
        at=at,
    )


def succeed(
    session: Session,
    job_id: str,
    *,
    token: str | None,
    metrics: dict[str, Any] | None,
    at: datetime,
    before: str = RUNNING,
    **values: Any,
) -> Job | None:
    """End a job with a model as succeeded. Return None if the lease is not `token`'s."""
    model_id = session.scalar(select(Job.model_id).where(Job.id == job_id))  # it never changes again
    job = transition(
        session,
        job_id,
        Job.model_id.is_not(None),
        at=at,
        before=before,
        token=token,
        event="succeeded",
        data={"model_id": model_id},
        status=SUCCEEDED,
        metrics=metrics,
        **values,
        **finished_values(at),
    )
    if job is not None and model_id is not None:
        set_metrics(session, model_id, metrics)
    return job
