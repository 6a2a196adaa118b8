"""Durations of recent jobs, the basis of estimates for new ones."""

from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.store.db.pagination import json_bytes
from core.store.db.tables import SUCCEEDED, Job

MAX_LOOKS = 1_000
"""Maximum number of jobs that are searched for a backbone, because no index has it."""
MAX_JSON_BYTES = 200_000
"""Jobs with larger settings, because of their prompts, are no basis: all of them are in memory at once."""


class Succeeded(NamedTuple):
    """Settings and duration of a successful job."""

    config: dict[str, Any]
    classes: list[dict[str, Any]]
    seconds: float
    """Time from start to end."""


def recent_successes(
    session: Session, *, backbone: str, image_size: int | None, max_jobs: int = 20
) -> list[Succeeded]:
    """Return jobs of all owners that succeeded at their first attempt, from the newest MAX_LOOKS jobs."""
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
