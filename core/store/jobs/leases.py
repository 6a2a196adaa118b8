"""The worker's side of a job: claim it, keep the lease alive, end it.

Whoever holds a job has a token. Every write names it, so that a worker that was frozen and wakes
up after its lease has gone to another one changes nothing. Callers use these through `jobs`.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from core.store.accounts import owners
from core.store.db.session import database_now
from core.store.db.tables import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED, Job, Model
from core.store.db.text import sanitize_text
from core.store.jobs import checkpoints, events, fair_queue
from core.store.jobs.transitions import append_event, finished_values, requeued_values, transition
from core.store.registry.models import NewModel, add_model


@dataclass(frozen=True)
class Claim:
    """One worker's hold on one job, and what it needs to know to do it."""

    job_id: str
    token: str
    attempt: int
    name: str | None
    config: dict[str, Any]
    lease_expires_at: datetime


def claim(
    session: Session, job_id: str, *, worker: str, lease_seconds: float, max_running: int = 0
) -> Claim | None:
    """Take a queued job. None if there is nothing to take: gone, taken, ended or cancelled, or its
    owner has `max_running` jobs running (0: any number); then it's sent again when one has ended."""
    name = session.scalar(select(Job.owner).where(Job.id == job_id, Job.status == QUEUED))
    if name is None:
        return None
    owner = owners.lock(session, name)
    at = database_now(session)
    if not fair_queue.may_start(session, owner.name, max_running):
        hand_back(session, job_id)
        return None
    owner.served_at = at
    token = secrets.token_hex(16)
    expires = at + timedelta(seconds=lease_seconds)
    job = transition(
        session,
        job_id,
        at=at,
        allowed=[QUEUED],
        event="started",
        data={"worker": worker},
        status=RUNNING,
        attempts=Job.attempts + 1,
        lease_token=token,
        lease_expires_at=expires,
        worker=worker,
        started_at=func.coalesce(Job.started_at, at),
    )
    if job is None:
        return None
    return Claim(job_id, token, job.attempts, job.name, job.config, expires)


def hand_back(session: Session, job_id: str) -> None:
    """The message of a queued job was taken by a worker that can't run it: another one may be sent now."""
    session.execute(
        update(Job).where(Job.id == job_id, Job.status == QUEUED).values(dispatched_at=None),
        execution_options={"synchronize_session": False},
    )


def heartbeat(
    session: Session, claim: Claim, *, lease_seconds: float, progress: dict[str, Any] | None
) -> bool | None:
    """Renew the lease and show the progress. True: stop, a cancel was asked for. None: the lease
    is lost, stop at once and write nothing more. A new `progress["stage"]` becomes an event, and so
    does the progress itself."""
    job = _held(session, claim)
    if job is None:
        return None
    at = database_now(session)
    stage = (progress or {}).get("stage")
    if stage is not None and stage != (job.progress or {}).get("stage"):
        append_event(session, claim.job_id, at=at, type="stage", data={"stage": stage})
    job.lease_expires_at = at + timedelta(seconds=lease_seconds)
    if progress is not None and progress != job.progress:
        events.record_progress(session, job, progress, at=at)
        job.progress = progress
    session.flush()
    return job.cancel_requested


def record_warning(session: Session, claim: Claim, code: str, detail: str) -> bool:
    """Add a warning to the job; once, though a second attempt may say it again."""
    job = _held(session, claim)
    if job is None:
        return False
    warning = {"code": sanitize_text(code), "detail": sanitize_text(detail)}
    if warning not in job.warnings:
        job.warnings = [*job.warnings, warning]
        append_event(session, claim.job_id, at=database_now(session), type="warning", data=warning)
    return True


def record(session: Session, claim: Claim, event: str, **data: Any) -> bool:
    """Something that happened in this attempt and changes nothing about the job. False if the lease is
    lost."""
    if _held(session, claim) is None:
        return False
    append_event(session, claim.job_id, at=database_now(session), type=event, data=data)
    return True


def publish(session: Session, claim: Claim, model: NewModel, metrics: dict[str, Any] | None) -> bool:
    """The job has succeeded and its model can be used: both or neither.

    False, and nothing written, if the lease is lost; the caller then removes the files it wrote.
    True also if this very model is published already, so that it may be asked again after a
    commit whose answer was lost. A cancel that comes this late comes too late.
    """
    at = database_now(session)
    job = transition(
        session,
        claim.job_id,
        at=at,
        allowed=[RUNNING],
        token=claim.token,
        event="succeeded",
        data={"model_id": model.id},
        status=SUCCEEDED,
        model_id=model.id,
        metrics=metrics,
        **finished_values(at),
    )
    if job is None:
        return session.get(Model, model.id) is not None
    checkpoints.note_end(session, claim.job_id)
    add_model(session, model, owner=job.owner, job_id=claim.job_id, metrics=metrics, at=at)
    return True


def finish_failed(session: Session, claim: Claim, *, code: str, detail: str) -> bool:
    """The job has failed for good. False if the lease is lost."""
    at = database_now(session)
    return fail(session, claim.job_id, token=claim.token, code=code, detail=detail, at=at) is not None


def finish_cancelled(session: Session, claim: Claim) -> bool:
    """The training has stopped as asked. False if the lease is lost."""
    at = database_now(session)
    return cancel(session, claim.job_id, token=claim.token, allowed=[RUNNING], at=at) is not None


def requeue(
    session: Session,
    claim: Claim,
    *,
    spend_attempt: bool,
    max_attempts: int,
    code: str,
    detail: str,
    delay_seconds: float = 0,
) -> str | None:
    """The job goes back to the queue: the worker stops (`spend_attempt=False`, it was not the
    job's fault), or something went wrong that may go right elsewhere (True: after `max_attempts`
    the job has failed with `code` and `detail`). Cancelled if that was asked for. It is not due
    again before `delay_seconds`. Returns its status, None if the lease is lost."""
    job = _held(session, claim)
    if job is None:
        return None
    attempts = job.attempts if spend_attempt else job.attempts - 1
    at = database_now(session)
    released = end_lease(
        session,
        job,
        at=at,
        attempts=attempts,
        exhausted=spend_attempt and attempts >= max_attempts,
        reason=code,
        code=code,
        detail=detail,
        due=at + timedelta(seconds=delay_seconds),
    )
    return None if released is None else released.status


def end_lease(
    session: Session,
    job: Job,
    *,
    at: datetime,
    attempts: int,
    exhausted: bool,
    reason: str,
    code: str,
    detail: str,
    due: datetime | None = None,
) -> Job | None:
    """A running job that nobody runs any more: cancelled, failed or queued again, for now or `due`."""
    if job.cancel_requested:
        return cancel(session, job.id, token=job.lease_token, allowed=[RUNNING], at=at)
    if exhausted:
        return fail(session, job.id, token=job.lease_token, code=code, detail=detail, at=at)
    return transition(
        session,
        job.id,
        at=at,
        allowed=[RUNNING],
        token=job.lease_token,
        event="requeued",
        data={"reason": reason, "detail": sanitize_text(detail)},
        attempts=attempts,
        **requeued_values(due or at),
    )


def fail(
    session: Session, job_id: str, *, token: str | None, code: str, detail: str, at: datetime
) -> Job | None:
    error = {"code": sanitize_text(code)[:64], "detail": sanitize_text(detail)}
    failed = transition(
        session,
        job_id,
        at=at,
        allowed=[RUNNING],
        token=token,
        event="failed",
        data=error,
        status=FAILED,
        error_code=error["code"],
        error_detail=error["detail"],
        **finished_values(at),
    )
    if failed is not None:
        checkpoints.note_end(session, job_id)
    return failed


def cancel(
    session: Session, job_id: str, *, token: str | None, allowed: list[str], at: datetime
) -> Job | None:
    cancelled = transition(
        session,
        job_id,
        at=at,
        allowed=allowed,
        token=token,
        event="cancelled",
        status=CANCELLED,
        cancel_requested=True,
        **finished_values(at),
    )
    if cancelled is not None:
        checkpoints.note_end(session, job_id)
    return cancelled


def _held(session: Session, claim: Claim) -> Job | None:
    """The claimed job, locked, if the claim still holds."""
    held = select(Job).where(Job.id == claim.job_id, Job.status == RUNNING, Job.lease_token == claim.token)
    return session.scalars(
        held.with_for_update(), execution_options={"populate_existing": True}
    ).one_or_none()
