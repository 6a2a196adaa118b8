"""POST /adapt, and /jobs: watch, cancel and delete training jobs."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from api.deps import After, BlobsDep, CurrentOwner, DatabaseDep, EventHubDep, Limit, ServingDep
from api.jobs import service
from api.jobs.event_stream import answer_events
from api.jobs.form import JobFormDep, form_router
from api.jobs.schemas import STREAM_EXAMPLE, EventList, Job, JobPage, Preflight, Status
from api.jobs.submission import SubmissionDep
from api.problems import responses
from api.threads import UPLOADS
from core.settings import Settings

router = APIRouter(prefix="/jobs", tags=["jobs"])
MAX_SEQ = 2**31 - 1
Wait = Annotated[float, Query(ge=0, le=60, description="Answer when the job ends, or after so many seconds.")]
AfterSeq = Annotated[int, Query(ge=0, le=MAX_SEQ, description="Only events with a greater `seq`.")]
LastEventId = Annotated[
    int | None,
    Header(
        ge=0, le=MAX_SEQ, description="For a stream: go on after this `id`. Browsers send it by themselves."
    ),
]
PREFLIGHT_RESPONSE = {
    "model": Preflight,
    "description": "With `dry_run`: the preflight. Nothing was stored.",
}


@router.get("", responses=responses(401, 422, 503))
def list_jobs(
    database: DatabaseDep,
    owner: CurrentOwner,
    status: Status | None = None,
    limit: Limit = 20,
    after: After = None,
) -> JobPage:
    """Newest first."""
    return service.list_jobs(database, owner, status, limit, after)


@router.get("/{job_id}", responses=responses(401, 404, 422, 503))
async def get_job(
    request: Request, database: DatabaseDep, owner: CurrentOwner, job_id: str, wait: Wait = 0
) -> Job:
    """The job as it is; with `wait` as soon as it has ended."""
    return await service.wait_for_job(request, database, owner, job_id, wait)


@router.post("/{job_id}/cancel", status_code=202, responses=responses(401, 404, 409, 422, 503, 507))
def cancel_job(database: DatabaseDep, owner: CurrentOwner, job_id: str) -> Job:
    """A queued job is cancelled at once, a running one within seconds. Calling it again is harmless."""
    return service.cancel_job(database, owner, job_id)


@router.delete("/{job_id}", status_code=204, responses=responses(401, 404, 409, 422, 503, 507))
def delete_job(
    database: DatabaseDep, blobs: BlobsDep, serving: ServingDep, owner: CurrentOwner, job_id: str
) -> None:
    """Remove the job and its images. Its model stays."""
    service.delete_job(database, blobs, serving, owner, job_id)


@router.get("/{job_id}/preflight", responses=responses(401, 404, 422, 503))
def get_preflight(database: DatabaseDep, blobs: BlobsDep, owner: CurrentOwner, job_id: str) -> Preflight:
    """What was found in the job's images, one by one, and what it was expected to take."""
    return service.get_preflight(database, blobs, owner, job_id)


@router.get(
    "/{job_id}/events",
    response_model=EventList,
    responses={
        200: {
            "description": "The list; with `Accept: text/event-stream` the stream.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": STREAM_EXAMPLE}},
        },
        204: {"description": "The stream has nothing more to come: the job has ended, and `done` was sent."},
        **responses(401, 404, 422, 503),
    },
)
def list_events(
    database: DatabaseDep,
    feed: EventHubDep,
    owner: CurrentOwner,
    job_id: str,
    after: AfterSeq = 0,
    last_event_id: LastEventId = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Any:
    """What happened to the job, in order, each with a growing `seq`.

    With `Accept: text/event-stream` a stream that goes on until the job has ended: `progress` while it
    trains (at most once per second), `log` for all else that happens, `done` at the end (`type` says how
    it ended). Each has the `seq` as its `id`, and the entry of the list as its data. After a lost
    connection it resumes with `Last-Event-ID`, at this or any other process of the service. It ends by itself
    after 15 minutes, and is to be resumed then too.

    Of `progress` the last entry for each percent of a stage is kept, until a week after the end.
    """
    return answer_events(database, feed, owner, job_id, after, last_event_id, accept)


def make_adapt_router(settings: Settings) -> APIRouter:
    adapt_router = form_router(settings, "adapt")
    adapt_router.post(
        "/adapt",
        status_code=202,
        response_model=Job,
        responses={200: PREFLIGHT_RESPONSE, **responses(400, 401, 408, 409, 413, 422, 503, 507)},
    )(UPLOADS.runs(adapt))
    return adapt_router


def adapt(submission: SubmissionDep, form: JobFormDep, owner: CurrentOwner) -> Response:
    """Upload labelled images and start an adaptation.

    At least 2 classes with an image each; 4 to 16 images a class work well. Every image is checked
    before the answer, and what is odd about images, class names and their balance is in the job's
    `warnings`; GET /jobs/{id}/preflight has it image by image. Poll the job with GET /jobs/{id}.

    With an `Idempotency-Key` a request may be sent again when its answer was lost: for 24 hours it gets
    the job that it made the first time, with `Idempotency-Replayed: true`.
    """
    return submission.submit(form.upload, form.options, owner)
