"""Durations of recent jobs, the basis of estimates for new ones."""

from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.store.db.tables import SUCCEEDED, Job


class Succeeded(NamedTuple):
    """Settings and duration of a successful job."""

    config: dict[str, Any]
    classes: list[dict[str, Any]]
    seconds: float
    """Time from start to end."""


def recent_successes(
    session: Session, *, backbone: str, image_size: int | None, max_jobs: int = 20
) -> list[Succeeded]:
    """Return the newest jobs of all owners that succeeded at their first attempt."""
    rows = session.execute(
        select(Job.config, Job.classes, Job.started_at, Job.finished_at)
        .where(Job.status == SUCCEEDED, Job.attempts == 1)
        .where(Job.config["backbone"].as_string() == backbone)
        .order_by(Job.created_at.desc(), Job.id.desc())
        .limit(10 * max_jobs)
    )
    successes = [
        Succeeded(config, classes, (finished - started).total_seconds())
        for config, classes, started, finished in rows
        if started is not None and finished is not None and config.get("image_size") == image_size
    ]
    return successes[:max_jobs]
