"""Statistics of jobs: of the queue for metrics, and durations of recent jobs for estimates."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.store.db.pagination import json_bytes
from core.store.db.session import database_now
from core.store.db.tables import FAILED, QUEUED, STATUSES, SUCCEEDED, Job

MAX_LOOKS = 1_000
"""Maximum number of jobs to search for a backbone, which has no index."""
MAX_JSON_BYTES = 200_000
"""Maximum size of the settings of a job that counts for estimates. All are in memory at once, and prompts
can be long."""


class Backlog(NamedTuple):
    """Statistics of all jobs, explained by the metrics in `core.metrics` (seconds)."""

    jobs: dict[str, int]
    failures: dict[str, int]
    queue_age: float
    dispatch_lag: float


def backlog(session: Session, *, redispatch_seconds: float) -> Backlog:
    """Return the statistics. After `redispatch_seconds` a wake-up counts as lost."""
    now = database_now(session)
    counts = session.execute(select(Job.status, func.count()).group_by(Job.status))
    failed = select(Job.error_code, func.count()).where(Job.status == FAILED).group_by(Job.error_code)
    # For a requeued job, the time of its return to the queue counts.
    queued = select(func.min(Job.available_at)).where(Job.status == QUEUED)
    lost = select(func.min(Job.dispatched_at)).where(Job.status == QUEUED, Job.dispatched_at.is_not(None))
    lost_lag = _seconds(session.scalar(lost), now - timedelta(seconds=redispatch_seconds))
    return Backlog(
        jobs={**dict.fromkeys(STATUSES, 0), **{status: count for status, count in counts}},
        failures={code or "": count for code, count in session.execute(failed)},
        queue_age=_seconds(session.scalar(queued), now),
        dispatch_lag=max(_seconds(session.scalar(queued.where(Job.dispatched_at.is_(None))), now), lost_lag),
    )


class Succeeded(NamedTuple):
    """Settings and duration of a successful job."""

    config: dict[str, Any]
    classes: list[dict[str, Any]]
    seconds: float
    """Time from start to end."""


def recent_successes(
    session: Session, *, backbone: str, image_size: int | None, max_jobs: int = 20
) -> list[Succeeded]:
    """Return jobs that succeeded at the first attempt, of all owners, among the newest MAX_LOOKS jobs."""
    newest = select(Job.id).where(Job.status == SUCCEEDED).order_by(Job.created_at.desc(), Job.id.desc())
    rows = session.execute(
        select(Job.config, Job.classes, Job.started_at, Job.finished_at)
        .where(Job.id.in_(newest.limit(MAX_LOOKS)), Job.attempts == 1)
        .where(Job.config["backbone"].as_string() == backbone)
        .where(Job.config["image_size"].as_integer().is_not_distinct_from(image_size))
        .where(json_bytes(Job.config, Job.classes) <= MAX_JSON_BYTES)
        .order_by(Job.created_at.desc(), Job.id.desc())
        .limit(max_jobs)
    )
    return [
        Succeeded(config, classes, (finished - started).total_seconds())
        for config, classes, started, finished in rows
        if started is not None and finished is not None
    ]


def _seconds(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())
