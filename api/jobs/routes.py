"""/jobs: watch, cancel and delete adaptations."""

import asyncio
import time
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict
from pydantic.config import JsonDict
from starlette.concurrency import run_in_threadpool

from api.deps import After, Limit, TheBlobs, TheDatabase, TheOwner, TheServing
from api.problems import responses
from core.store.db.pagination import cursor_of
from core.store.db.session import Database
from core.store.db.tables import FINAL, Job
from core.store.jobs import jobs
from core.store.storage import deletions

router = APIRouter(prefix="/jobs", tags=["jobs"])
Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
WAIT_POLL_SECONDS = 0.25
Wait = Annotated[float, Query(ge=0, le=60, description="Answer when the job ends, or after so many seconds.")]


class ClassCounts(BaseModel):
    name: str
    images: int
    test_images: int


class Loss(BaseModel):
    total: float
    dva: float
    scl: float
    vld: float


class Progress(BaseModel):
    stage: str
    epoch: int
    epochs: int | None
    step: int
    steps: int | None
    fraction: float
    eta_seconds: float | None
    images_per_second: float | None
    loss: Loss | None


class Warning(BaseModel):
    code: str
    detail: str


class JobError(BaseModel):
    code: str
    detail: str


EXAMPLE: JsonDict = {
    "id": "job_01m8879efspbrp0fvcbr51d4g1",
    "object": "job",
    "name": "animals",
    "status": "running",
    "cancel_requested": False,
    "created_at": "2026-11-25T02:05:12.551770Z",
    "started_at": "2026-11-25T02:05:12.789436Z",
    "finished_at": None,
    "config": {"backbone": "starter", "epochs": 10, "alpha": 0.5},
    "classes": [
        {"name": "red fox", "images": 8, "test_images": 2},
        {"name": "badger", "images": 8, "test_images": 2},
    ],
    "queue_position": None,
    "attempts": 1,
    "progress": {
        "stage": "training",
        "epoch": 3,
        "epochs": 10,
        "step": 3,
        "steps": 10,
        "fraction": 0.3,
        "eta_seconds": 12.5,
        "images_per_second": 18.0,
        "loss": {"total": 1.2, "dva": 0.6, "scl": 0.8, "vld": 0.4},
    },
    "model_id": None,
    "metrics": None,
    "warnings": [],
    "error": None,
}


class JobOut(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str
    object: Literal["job"] = "job"
    name: str | None
    status: Status
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    config: dict[str, Any]
    classes: list[ClassCounts]
    queue_position: int | None
    attempts: int
    progress: Progress | None
    model_id: str | None
    metrics: dict[str, Any] | None
    warnings: list[Warning]
    error: JobError | None

    @classmethod
    def of(cls, job: Job, queue_position: int | None) -> "JobOut":
        error = None
        if job.error_code is not None:
            error = {"code": job.error_code, "detail": job.error_detail or ""}
        columns = {name: getattr(job, name) for name in cls.model_fields if hasattr(job, name)}
        return cls.model_validate({**columns, "queue_position": queue_position, "error": error})


class JobPage(BaseModel):
    data: list[JobOut]
    has_more: bool
    next_cursor: str | None


def read_job(database: Database, owner: str, job_id: str) -> JobOut:
    with database.read() as session:
        job = jobs.get(session, job_id, owner=owner)
        return JobOut.of(job, jobs.queue_position(session, job))


@router.get("", responses=responses(401, 422, 503))
def list_jobs(
    database: TheDatabase,
    owner: TheOwner,
    status: Status | None = None,
    limit: Limit = 20,
    after: After = None,
) -> JobPage:
    """Newest first."""
    with database.read() as session:
        page, more = jobs.list_page(session, owner=owner, status=status, limit=limit, after=after)
        places = jobs.queue_positions(session, page)
    data = [JobOut.of(job, places.get(job.id)) for job in page]
    return JobPage(data=data, has_more=more, next_cursor=cursor_of(page[-1]) if more else None)


@router.get("/{job_id}", responses=responses(401, 404, 422, 503))
async def get_job(
    request: Request, database: TheDatabase, owner: TheOwner, job_id: str, wait: Wait = 0
) -> JobOut:
    """The job as it is; with `wait` as soon as it has ended."""
    until = time.monotonic() + wait
    while True:
        job = await run_in_threadpool(read_job, database, owner, job_id)
        stopping = request.app.state.stopping.is_set()
        if job.status in FINAL or time.monotonic() >= until or stopping or await request.is_disconnected():
            return job
        await asyncio.sleep(WAIT_POLL_SECONDS)


@router.post("/{job_id}/cancel", status_code=202, responses=responses(401, 404, 409, 422, 503, 507))
def cancel_job(database: TheDatabase, owner: TheOwner, job_id: str) -> JobOut:
    """A queued job is cancelled at once, a running one within seconds. Calling it again is harmless."""
    with database.write() as session:
        job = jobs.request_cancel(session, job_id, owner=owner)
        return JobOut.of(job, jobs.queue_position(session, job))


@router.delete("/{job_id}", status_code=204, responses=responses(401, 404, 409, 422, 503, 507))
def delete_job(
    database: TheDatabase, blobs: TheBlobs, serving: TheServing, owner: TheOwner, job_id: str
) -> Response:
    """Remove the job and its pictures. Its model stays."""
    with database.write() as session:
        jobs.delete(session, job_id, owner=owner)
    serving.previews.forget(job_id)
    deletions.finish(database, blobs, jobs.blobs_of(job_id))
    return Response(status_code=204)
