"""Responses of the /jobs routes, from the rows of the database."""

from clipcite.wire.jobs import Job
from core.store.db import tables


def to_job(row: tables.Job, queue_position: int | None) -> Job:
    error = None
    if row.error_code is not None:
        error = {"code": row.error_code, "detail": row.error_detail or ""}
    columns = {name: getattr(row, name) for name in Job.model_fields if hasattr(row, name)}
    return Job.model_validate({**columns, "queue_position": queue_position, "error": error})
