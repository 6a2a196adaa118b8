"""Responses of jobs."""

from sqlalchemy.orm import Session

from clipcite.types.jobs import FINAL, Job, Progress
from clipcite.types.problems import Notice
from clipcite.types.report import Metrics
from core.clip.evaluation.report_text import TOO_FEW_IMAGES, verdict_sentences
from core.store.db import tables
from core.store.jobs import fair_queue, lifecycle
from core.store.registry import models


def job_response(session: Session, row: tables.Job) -> Job:
    """Return the response for a job as it is now."""
    return to_job(row, fair_queue.position(session, row), models.of_jobs(session, [row]).get(row.id))


def to_job(row: tables.Job, queue_position: int | None, model: tables.Model | None) -> Job:
    """Return the response for a job. `model` is its model, if there is one. Its last evaluation counts."""
    measured = row.metrics if model is None or row.status not in FINAL else models.measured(model)
    metrics = None if measured is None else Metrics.model_validate(measured)
    if metrics is not None:
        metrics.sentences = verdict_sentences(metrics, reason=_not_evaluated(row))
    return Job(
        id=row.id,
        name=row.name,
        status=row.status,
        cancel_requested=row.cancel_requested,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        config=row.config,
        classes=row.classes,
        queue_position=queue_position,
        attempts=row.attempts,
        progress=None if row.progress is None else Progress.model_validate(row.progress),
        model_id=row.model_id,
        metrics=metrics,
        promoted=None if model is None else model.promoted,
        not_promoted=None if model is None else models.not_promoted(model),
        warnings=row.warnings,
        error=None if row.error_code is None else Notice(code=row.error_code, detail=row.error_detail or ""),
        request_id=row.request_id,
    )


def _not_evaluated(row: tables.Job) -> str:
    """Return the reason why a model without an evaluation has none."""
    if row.config.get("evaluate") == "none":
        return "Evaluation was turned off."
    skipped = (w["detail"] for w in row.warnings if w["code"] in lifecycle.EVALUATION_SKIPPED)
    return next(skipped, TOO_FEW_IMAGES)
