"""Leases of jobs, the worker's side: claim a job, renew its lease, end it.

Every write carries the lease's token. A worker that was frozen and wakes up after another one took over the
job therefore changes nothing.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from core.store.accounts import owners
from core.store.db.session import database_now
from core.store.db.tables import EVALUATING, QUEUED, RUNNING, SUCCEEDED, Job, JobEvent, Owner
from core.store.db.text import sanitize_text
from core.store.jobs import events
from core.store.jobs.endings import CHECKPOINT, cancel, end_lease, fail, mark_checkpoints, succeed
from core.store.jobs.outbox import MODEL_PUBLISHED, enqueue_webhook
from core.store.jobs.transitions import append_event, transition
from core.store.registry.models import NewModel, add_model
from core.store.storage import deletions

PUBLISHED = "model_published"


@dataclass(frozen=True)
class Claim:
    """A worker's lease on a job, with the data needed to run it."""

    job_id: str
    token: str
    attempt: int
    name: str | None
    config: dict[str, Any]
    model_id: str | None
    """Model that an earlier attempt published. This attempt only evaluates it."""
    traceparent: str | None
    """Trace of the request that created the job."""
    waiting: tuple[datetime, datetime]
    """Time since which the job could start, and time of this claim."""
    request_id: str | None = None
    """Id of the request that created the job."""

    @property
    def is_evaluated(self) -> bool:
        """False for a job that ends with its model."""
        return bool(self.config.get("evaluate") != "none")


def claim(
    session: Session, job_id: str, *, worker: str, lease_seconds: float, max_running: int = 0
) -> Claim | None:
    """Claim a queued job.

    The result is None if the job is no longer queued, or if its owner already has `max_running` running jobs
    (0 means no limit). In the latter case the wake-up is sent again when one of them has ended.
    """
    queued = select(Job.owner).where(Job.id == job_id, Job.status == QUEUED).with_for_update()
    owner_name = session.scalar(queued)
    if owner_name is None:
        return None
    if max_running:
        owners.lock(session, owner_name)  # else two workers could claim jobs of this owner at once
        running = select(func.count()).where(Job.owner == owner_name, Job.status == RUNNING)
        if (session.scalar(running) or 0) >= max_running:
            hand_back(session, job_id)
            return None
    at = database_now(session)
    token = secrets.token_hex(16)
    job = transition(
        session,
        job_id,
        at=at,
        before=QUEUED,
        event="started",
        data={"worker": worker},
        status=RUNNING,
        attempts=Job.attempts + 1,
        lease_token=token,
        lease_expires_at=at + timedelta(seconds=lease_seconds),
        worker=worker,
        started_at=func.coalesce(Job.started_at, at),
    )
    if job is None:
        return None
    started = update(Owner).where(Owner.name == owner_name).values(served_at=at)
    session.execute(started, execution_options={"synchronize_session": False})
    return Claim(
        job_id,
        token,
        job.attempts,
        job.name,
        job.config,
        job.model_id,
        job.traceparent,
        (job.available_at, at),
        job.request_id,
    )


def hand_back(session: Session, job_id: str) -> None:
    """Allow another wake-up for a queued job at once, because this worker can't run the job."""
    session.execute(
        update(Job).where(Job.id == job_id, Job.status == QUEUED).values(dispatched_at=None),
        execution_options={"synchronize_session": False},
    )


def heartbeat(
    session: Session, claim: Claim, *, lease_seconds: float, progress: dict[str, Any] | None
) -> bool | None:
    """Renew the lease and store the progress. The progress and a new `progress["stage"]` become events.

    Returns:
        True if a cancellation was requested. None if the lease is lost: the worker must stop at once and
        write nothing more.
    """
    job = _held(session, claim)
    if job is None:
        return None
    at = database_now(session)
    if progress is not None and job.model_id is not None:
        progress = {**progress, "stage": EVALUATING}  # the caller may not know of the commit yet
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
    """Add a warning to the job, unless an earlier attempt added it. Return False if the lease is lost."""
    job = _held(session, claim)
    if job is None:
        return False
    warning = {"code": sanitize_text(code), "detail": sanitize_text(detail)}
    if warning not in job.warnings:
        job.warnings = [*job.warnings, warning]
        append_event(session, claim.job_id, at=database_now(session), type="warning", data=warning)
    return True


def record(session: Session, claim: Claim, /, event: str, **data: Any) -> bool:
    """Append an event that does not change the job. Return False if the lease is lost."""
    if _held(session, claim) is None:
        return False
    append_event(session, claim.job_id, at=database_now(session), type=event, data=data)
    return True


def record_checkpoint(session: Session, claim: Claim, folder: str, epoch: int) -> bool:
    """Keep a checkpoint that is stored in its own folder. Return False if the lease is lost."""
    held = record(session, claim, CHECKPOINT, epoch=epoch)
    if held:
        deletions.keep(session, folder)
    return held


def publish(
    session: Session,
    claim: Claim,
    model: NewModel,
    metrics: dict[str, Any] | None,
    *,
    seconds: float | None = None,
    evaluate: bool = False,
) -> bool:
    """Add the job's model. The job stays running with `evaluate`; otherwise it has succeeded.

    A pending cancellation is ignored. With `evaluate` it then ends the evaluation.

    Args:
        seconds: duration of the training.

    Returns:
        False if the lease is lost, and nothing is written then. True also if this model was already
        published, so that the call can be repeated after a commit with an unknown result.
    """
    held = _held(session, claim)
    progress = None if held is None else held.progress
    at = database_now(session)
    job = transition(
        session,
        claim.job_id,
        Job.model_id.is_(None),
        at=at,
        before=RUNNING,
        token=claim.token,
        event=PUBLISHED,
        data={"model_id": model.id, "seconds": seconds},
        model_id=model.id,
        metrics=metrics,
        reserved_bytes=0,
        progress=None if progress is None else {**progress, "stage": EVALUATING},
    )
    if job is None:
        return session.scalar(select(Job.model_id).where(Job.id == claim.job_id)) == model.id
    mark_checkpoints(session, job)
    add_model(
        session,
        model,
        owner=job.owner,
        job_id=claim.job_id,
        metrics=metrics,
        at=at,
        created_by=job.created_by,
    )
    enqueue_webhook(session, job, MODEL_PUBLISHED, at=at)
    if evaluate:
        append_event(session, job.id, at=at, type="stage", data={"stage": EVALUATING})
        return True
    return finish(session, claim, metrics)


def training_seconds(session: Session, job_id: str) -> float:
    """Return the duration of the training, as noted when the job's model was published."""
    event = select(JobEvent.data).where(JobEvent.job_id == job_id, JobEvent.type == PUBLISHED)
    return float((session.scalar(event) or {}).get("seconds") or 0)


def finish(
    session: Session, claim: Claim, metrics: dict[str, Any] | None, report_key: str | None = None
) -> bool:
    """End the job, whose model is published, as succeeded. Set the metrics of both.

    Args:
        report_key: blob key of the stored report, which was announced (`deletions`).

    Returns:
        False if the lease is lost, as for `publish`.
    """
    at = database_now(session)
    if succeed(session, claim.job_id, token=claim.token, metrics=metrics, report_key=report_key, at=at):
        if report_key is not None:
            deletions.keep(session, report_key)
        return True
    same = (Job.id == claim.job_id, Job.status == SUCCEEDED, Job.report_key.is_not_distinct_from(report_key))
    return session.scalar(select(Job.id).where(*same)) is not None


def finish_failed(session: Session, claim: Claim, *, code: str, detail: str) -> str | None:
    """End the job as `fail` does. Return its status, or None if the lease is lost."""
    at = database_now(session)
    job = fail(session, claim.job_id, token=claim.token, code=code, detail=detail, at=at)
    return None if job is None else job.status


def finish_cancelled(session: Session, claim: Claim) -> str | None:
    """End the job as `cancel` does. Return its status, or None if the lease is lost."""
    job = cancel(session, claim.job_id, token=claim.token, before=RUNNING, at=database_now(session))
    return None if job is None else job.status


def requeue(
    session: Session,
    claim: Claim,
    *,
    spend_attempt: bool,
    max_attempts: int,
    code: str,
    detail: str,
) -> str | None:
    """Requeue the job, or cancel it if that was requested.

    Args:
        spend_attempt: False if the worker stops for another reason than the job. True after an error that
            another attempt may avoid.
        max_attempts: with `spend_attempt`, the number of attempts after which the job fails.
        code: reason of the requeue or the failure.
        detail: the reason for a person.

    Returns:
        The new status, or None if the lease is lost.
    """
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
        code=code,
        detail=detail,
    )
    return None if released is None else released.status


def _held(session: Session, claim: Claim) -> Job | None:
    """Return the claimed job, locked, or None if the lease is lost."""
    query = select(Job).where(Job.id == claim.job_id, Job.status == RUNNING, Job.lease_token == claim.token)
    return session.scalars(
        query.with_for_update(), execution_options={"populate_existing": True}
    ).one_or_none()
