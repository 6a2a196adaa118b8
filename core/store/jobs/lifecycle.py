"""The life of a job: its states, who may change them, and what each change writes.

    queued  --claim (worker)-->  running  --publish (worker)-->  running with a model
    running --finish, fail, cancel (worker)-->  succeeded | failed | cancelled
    running --requeue (worker), expire_leases (dispatcher), restore-->  queued
    queued  --request_cancel (API)-->  cancelled

A job with a model can only succeed: a later error or cancellation only skips its evaluation.

Each change is a compare-and-set on the job's row (`transition`). The same transaction writes its event and
its webhook message. Every write of a worker carries the token of its lease, so a worker that was frozen while
another one took over its job changes nothing. Retrying is safe: changes are idempotent.

The order is top-down: functions for the API, the dispatcher and the worker, then how jobs end, then what each
change writes.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, insert, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy.orm import Session

from clipcite.types.images import Image
from clipcite.types.jobs import FINAL
from clipcite.types.problems import ProblemAction
from core.clip.weights.manifest import Manifest
from core.log import current
from core.store.accounts import audit, owners
from core.store.db.ids import new_id
from core.store.db.session import database_now
from core.store.db.tables import (
    CANCELLED,
    EVALUATING,
    FAILED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    Job,
    JobEvent,
    JobImage,
    Owner,
    WebhookDelivery,
)
from core.store.db.text import sanitize_text, utc_text
from core.store.errors import Conflict
from core.store.jobs.jobs import blobs_of, checkpoints_of, columns_of, get
from core.store.registry.models import add_model, is_promoted, set_metrics
from core.store.storage import deletions

FAR_LEASES = 10
"""A lease that ends later than this number of lease durations comes from a wrong clock. The factor allows for
workers with a longer setting."""
MODEL_PUBLISHED = "model.published"
PUBLISHED = "model_published"
CHECKPOINT, RESUMED = "checkpoint", "resumed"
"""Events: a checkpoint was stored, and an attempt resumed from one."""
EVALUATION_FAILED, EVALUATION_CANCELLED = "evaluation_failed", "evaluation_cancelled"
EVALUATION_SKIPPED = (EVALUATION_FAILED, EVALUATION_CANCELLED)
"""Notices on a job that has a model but was not evaluated."""
PROGRESS = "progress"


# --- the API ---


@dataclass(frozen=True)
class NewJob:
    """A job to create. Its images are stored."""

    id: str
    owner: str
    name: str | None
    config: dict[str, Any]
    classes: list[dict[str, Any]]
    warnings: list[dict[str, Any]]
    images: Sequence[Image]
    webhook: str | None = None
    """Checked URL."""

    @property
    def image_bytes(self) -> int:
        return sum(image.bytes for image in self.images)


def create(session: Session, new: NewJob, *, reserved_bytes: int = 0) -> Job:
    """Create a queued job that is due now. The dispatcher sends the wake-up, so requests need no broker.

    `blobs_of` must have been announced before (`deletions`).

    Args:
        reserved_bytes: expected size of the job's model.
    """
    at = database_now(session)
    request_id = current("request_id")
    job = Job(
        id=new.id,
        owner=new.owner,
        name=new.name,
        status=QUEUED,
        cancel_requested=False,
        config=new.config,
        classes=new.classes,
        warnings=new.warnings,
        attempts=0,
        available_at=at,
        created_at=at,
        image_bytes=new.image_bytes,
        reserved_bytes=reserved_bytes,
        webhook=new.webhook,
        request_id=request_id,
        created_by=audit.actor().key_id,
    )
    session.add(job)
    session.flush()
    deletions.keep(session, blobs_of(new.id))
    rows = [
        {
            **columns_of(image),
            "id": new_id("pic"),
            "job_id": new.id,
            "position": position,
        }
        for position, image in enumerate(new.images)
    ]
    if rows:
        session.execute(insert(JobImage), rows)
    queued = {"images": len(rows), **of_request(request_id)}
    append_event(session, new.id, at=at, type="queued", data=queued)
    return job


def request_cancel(session: Session, job_id: str, *, owner: str) -> Job:
    """Cancel a queued job, or ask a running one to stop. Repeated calls change nothing.

    Raises:
        JobNotFound: the owner has no such job.
        Conflict: the job has succeeded or failed.
    """
    job = get(session, job_id, owner=owner, lock=True)
    if any(notice["code"] == EVALUATION_CANCELLED for notice in job.warnings):
        return job
    if job.status in FINAL and job.status != CANCELLED:
        raise Conflict(
            "job_already_finished",
            f"The job has already {job.status} and can't be cancelled. Delete it with ",
            ProblemAction.of("DELETE /jobs/{job_id}", job_id=job_id),
            ".",
        )
    if job.status == CANCELLED or job.cancel_requested:
        return job
    at = database_now(session)
    if job.status == QUEUED:
        changed = cancel(session, job_id, token=None, before=QUEUED, at=at)
    else:
        changed = transition(
            session, job_id, at=at, before=RUNNING, event="cancel_requested", cancel_requested=True
        )
    return changed or get(session, job_id, owner=owner)


def delete(session: Session, job_id: str, *, owner: str) -> None:
    """Delete the job, its images and its events. After the commit the caller must delete its `blobs_of`.

    Raises:
        JobNotFound: the owner has no such job.
        Conflict: the job is running.
    """
    job = get(session, job_id, owner=owner, lock=True)
    if job.status == RUNNING:
        raise Conflict(
            "job_running",
            "The job is running. Cancel it with ",
            ProblemAction.of("POST /jobs/{job_id}/cancel", job_id=job_id),
            ", then delete it.",
        )
    if job.status == QUEUED and job.model_id is not None:  # the model is kept, but not evaluated
        cancel(session, job_id, token=None, before=QUEUED, at=database_now(session))
    session.delete(job)  # foreign keys cascade to images and events
    session.flush()
    deletions.mark_for_deletion(session, blobs_of(job.id))


# --- the dispatcher ---


def expire_leases(session: Session, *, max_attempts: int, lease_seconds: float) -> list[Job]:
    """End the expired leases of lost workers. Return the changed jobs.

    A job is requeued, or fails after its last attempt, or is cancelled if that was requested. A lease that
    ends far in the future was renewed while the clock was ahead. It is shortened: a living worker renews it.
    """
    at = database_now(session)
    lease = timedelta(seconds=lease_seconds)
    session.execute(
        update(Job)
        .where(Job.status == RUNNING, Job.lease_expires_at > at + FAR_LEASES * lease)
        .values(lease_expires_at=at + lease),
        execution_options={"synchronize_session": False},
    )
    expired = (
        select(Job)
        .where(Job.status == RUNNING, Job.lease_expires_at < at)
        .order_by(Job.created_at, Job.id)
        .with_for_update(skip_locked=True)
    )
    changed = []
    for job in session.scalars(expired, execution_options={"populate_existing": True}).all():
        times = "once" if job.attempts == 1 else f"{job.attempts} times"
        released = end_lease(
            session,
            job,
            at=at,
            attempts=job.attempts,
            exhausted=job.attempts >= max_attempts,
            code="worker_lost",
            detail=(
                f"The worker {job.worker!r} stopped responding while it ran this job, which was started "
                f"{times}. The usual cause is a lack of memory. Try a smaller batch_size or image_size, or "
                "check the worker's log."
            ),
        )
        if released is not None:
            changed.append(released)
    return changed


# --- the worker ---


@dataclass(frozen=True)
class Claim:
    """A worker's lease on a job, with the data for running the job."""

    job_id: str
    token: str
    attempt: int
    name: str | None
    config: dict[str, Any]
    model_id: str | None
    """Model that an earlier attempt published. This attempt only evaluates the model."""
    request_id: str | None = None
    """Id of the request that created the job."""

    @property
    def wants_evaluation(self) -> bool:
        """False if the job ends as soon as it has a model."""
        return bool(self.config.get("evaluate") != "none")


def claim(
    session: Session, job_id: str, *, worker: str, lease_seconds: float, max_running: int = 0
) -> Claim | None:
    """Take the lease of a queued job for a worker.

    Return None if the job is no longer queued, or if its owner already has `max_running` running jobs (0
    means no limit). In the second case the wake-up is sent again after one of them has ended.
    """
    queued = select(Job.owner).where(Job.id == job_id, Job.status == QUEUED).with_for_update()
    owner_name = session.scalar(queued)
    if owner_name is None:
        return None
    if max_running:
        owners.lock(session, owner_name)  # otherwise two workers could claim jobs of this owner at once
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
    return Claim(job_id, token, job.attempts, job.name, job.config, job.model_id, job.request_id)


def hand_back(session: Session, job_id: str) -> None:
    """Make a queued job due again, because this worker can't run it."""
    session.execute(
        update(Job).where(Job.id == job_id, Job.status == QUEUED).values(dispatched_at=None),
        execution_options={"synchronize_session": False},
    )


def renew_lease(
    session: Session, claim: Claim, *, lease_seconds: float, progress: dict[str, Any] | None
) -> bool | None:
    """Extend the lease and store the progress. The progress and a new `progress["stage"]` become events.

    Returns:
        True if a cancellation was requested, else False. None if the lease is lost: the worker must stop at
        once and write nothing more.
    """
    job = _held(session, claim)
    if job is None:
        return None
    at = database_now(session)
    if progress is not None and job.model_id is not None:
        progress = {**progress, "stage": EVALUATING}  # the caller may not know yet of the publication
    stage = (progress or {}).get("stage")
    if stage is not None and stage != (job.progress or {}).get("stage"):
        append_event(session, claim.job_id, at=at, type="stage", data={"stage": stage})
    job.lease_expires_at = at + timedelta(seconds=lease_seconds)
    if progress is not None and progress != job.progress:
        record_progress(session, job, progress, at=at)
        job.progress = progress
    session.flush()
    return job.cancel_requested


def record_warning(session: Session, claim: Claim, code: str, detail: str) -> bool:
    """Add a warning to the job, unless an earlier attempt did. Return False if the lease is lost."""
    job = _held(session, claim)
    if job is None:
        return False
    warning = {"code": sanitize_text(code), "detail": sanitize_text(detail)}
    if warning not in job.warnings:
        job.warnings = [*job.warnings, warning]
        append_event(session, claim.job_id, at=database_now(session), type="warning", data=warning)
    return True


def record(session: Session, claim: Claim, /, event: str, **data: Any) -> bool:
    """Append an event without changing the job. Return False if the lease is lost."""
    if _held(session, claim) is None:
        return False
    append_event(session, claim.job_id, at=database_now(session), type=event, data=data)
    return True


def record_checkpoint(session: Session, claim: Claim, folder: str, epoch: int) -> bool:
    """Keep the checkpoint that is stored in `folder`. Return False if the lease is lost."""
    held = record(session, claim, CHECKPOINT, epoch=epoch)
    if held:
        deletions.keep(session, folder)
    return held


def publish(
    session: Session,
    claim: Claim,
    model_id: str,
    manifest: Manifest,
    metrics: dict[str, Any] | None,
    *,
    seconds: float | None = None,
    evaluate: bool = False,
) -> bool:
    """Add the job's model. With `evaluate` the job stays running; otherwise it has succeeded.

    The model takes its name when the job ends (`succeed`), unless it is worse than the pre-trained model.
    A pending cancellation does not prevent publication. With `evaluate` it ends the evaluation later.

    Args:
        seconds: duration of the training.

    Returns:
        False if the lease is lost; nothing is written then. True even if this model was already published,
        so the call can be retried when the result of a commit is unknown.
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
        data={"model_id": model_id, "seconds": seconds},
        model_id=model_id,
        metrics=metrics,
        reserved_bytes=0,
        progress=None if progress is None else {**progress, "stage": EVALUATING},
    )
    if job is None:
        return session.scalar(select(Job.model_id).where(Job.id == claim.job_id)) == model_id
    mark_checkpoints(session, job)
    add_model(
        session,
        model_id,
        claim.name,
        manifest,
        owner=job.owner,
        job_id=claim.job_id,
        metrics=metrics,
        promoted=None,
        at=at,
        created_by=job.created_by,
    )
    enqueue_webhook(session, job, MODEL_PUBLISHED, at=at)
    if evaluate:
        append_event(session, job.id, at=at, type="stage", data={"stage": EVALUATING})
        return True
    return finish(session, claim, metrics)


def training_seconds(session: Session, job_id: str) -> float:
    """Return the duration of the training, as recorded by `publish`."""
    event = select(JobEvent.data).where(JobEvent.job_id == job_id, JobEvent.type == PUBLISHED)
    return float((session.scalar(event) or {}).get("seconds") or 0)


def finish(
    session: Session, claim: Claim, metrics: dict[str, Any] | None, report_key: str | None = None
) -> bool:
    """End a job with a published model as succeeded. Set the metrics of both.

    Args:
        report_key: blob key of the stored report. It must have been announced (`deletions`).

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
    """End the job as cancelled, or as succeeded if it has a model.

    Return its status, or None if the lease is lost.
    """
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
        spend_attempt: True after an error that another attempt may avoid. False if the job did not cause the
            stop.
        max_attempts: with `spend_attempt`, the number of attempts after which the job fails.
        code: reason of the requeue or the failure.
        detail: explanation for people.

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


# --- ends ---


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
    """End the lease of a running job. Cancel the job if requested, fail it if `exhausted`, or requeue it."""
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
    """End a running job as failed. A job with a model ends as succeeded: only its evaluation has failed.

    Return None if the job's token is not `token`.
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
    detail = (
        f"The model is ready, but it was not evaluated. {error['detail']} You can also evaluate the model "
        "with test images."
    )
    return _skip_evaluation(session, job_id, EVALUATION_FAILED, detail, token=token, before=RUNNING, at=at)


def cancel(session: Session, job_id: str, *, token: str | None, before: str, at: datetime) -> Job | None:
    """End a job as cancelled. A job with a model ends as succeeded: only its evaluation is cancelled.

    Return None if the job's status is not `before`.
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
    """End a job with a model as succeeded. Return None if the job's token is not `token`."""
    held = select(Job.model_id).where(Job.id == job_id, Job.status == before, Job.model_id.is_not(None))
    if token is not None:
        held = held.where(Job.lease_token == token)
    model_id = session.scalar(held.with_for_update())
    if model_id is None:
        return None
    set_metrics(session, model_id, metrics)
    return transition(
        session,
        job_id,
        at=at,
        before=before,
        token=token,
        event="succeeded",
        data={"model_id": model_id, "promoted": is_promoted(session, model_id)},
        status=SUCCEEDED,
        metrics=metrics,
        **values,
        **finished_values(at),
    )


def mark_checkpoints(session: Session, job: Job) -> None:
    """Mark the job's checkpoints, if any, for deletion. Call this in the transaction that ends the job."""
    if job.started_at is not None:
        deletions.mark_for_deletion(session, checkpoints_of(job.id))


# --- what a change writes ---


def transition(
    session: Session,
    job_id: str,
    *where: ColumnElement[bool],
    at: datetime,
    before: str,
    event: str,
    token: str | None = None,
    data: dict[str, Any] | None = None,
    **values: Any,
) -> Job | None:
    """Set `values` and append `event`, if the job has the status `before` and, where given, this `token`.

    `where` adds conditions on the job. Its row stays locked until the transaction ends, so event numbers
    follow the order of the commits.

    Returns:
        The changed job. None if another transition came first; nothing is changed then.
    """
    statement = (
        update(Job).where(Job.id == job_id, Job.status == before, *where).values(**values).returning(Job)
    )
    if token is not None:
        statement = statement.where(Job.lease_token == token)
    job = session.scalars(
        statement, execution_options={"synchronize_session": False, "populate_existing": True}
    ).one_or_none()
    if job is not None:
        request = of_request(current("request_id") or job.request_id)
        append_event(session, job_id, at=at, type=event, data={**(data or {}), **request})
        if job.status in FINAL:
            enqueue_webhook(session, job, f"job.{job.status}", at=at)
    return job


def finished_values(at: datetime) -> dict[str, Any]:
    """Return the column values of every final state."""
    return {"finished_at": at, "lease_token": None, "lease_expires_at": None}


def append_event(
    session: Session, job_id: str, *, at: datetime, type: str, data: dict[str, Any] | None = None
) -> None:
    """Append an event to a job whose row this transaction has locked or created."""
    last = session.scalar(select(func.max(JobEvent.seq)).where(JobEvent.job_id == job_id)) or 0
    session.add(JobEvent(job_id=job_id, seq=last + 1, at=at, type=type, data=data or {}))
    session.flush()


def record_progress(session: Session, job: Job, progress: dict[str, Any], *, at: datetime) -> None:
    """Append a progress event. Delete the previous one if it has the same stage and percent.

    So about a hundred events remain, however long the job runs. The job's row must be locked, and
    `job.progress` must still hold the previous progress.
    """
    previous = None
    if job.progress is not None and _stage_and_percent(job.progress) == _stage_and_percent(progress):
        rows = select(func.max(JobEvent.seq)).where(JobEvent.job_id == job.id, JobEvent.type == PROGRESS)
        previous = session.scalar(rows)
    append_event(session, job.id, at=at, type=PROGRESS, data=progress)
    if previous is not None:  # after the append, so that the new number exceeds the previous one
        session.execute(
            delete_from(JobEvent).where(JobEvent.job_id == job.id, JobEvent.seq == previous),
            execution_options={"synchronize_session": False},
        )


def _stage_and_percent(progress: dict[str, Any]) -> tuple[Any, int]:
    return progress.get("stage"), int(100 * (progress.get("fraction") or 0))


def of_request(request_id: str | None) -> dict[str, str]:
    """Return the field with the request's id, for an event or a log line."""
    return {} if request_id is None else {"request_id": request_id}


def enqueue_webhook(session: Session, job: Job, type: str, *, at: datetime) -> None:
    """Insert a webhook message on a change of the job, if the job has a webhook.

    `type` is MODEL_PUBLISHED, or `job.` and the final status.
    """
    if job.webhook is None:
        return
    promoted = None if job.model_id is None else is_promoted(session, job.model_id)
    session.add(
        WebhookDelivery(
            id=new_id("msg"),
            job_id=job.id,
            body=_message(job, type, at, promoted),
            next_attempt_at=at,
        )
    )


def _message(job: Job, type: str, at: datetime, promoted: bool | None) -> dict[str, Any]:
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
            "promoted": promoted,
            "metrics": job.metrics,
            "error": error,
        },
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else utc_text(at)
