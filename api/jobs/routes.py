"""Routes of POST /adapt and /jobs: create, follow, cancel and delete training jobs."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from api.deps import After, BlobsDep, CurrentOwner, DatabaseDep, Limit, ServingDep
from api.http.problems import responses
from api.jobs import service
from api.jobs.event_stream import EventSourceDep, answer_events
from api.jobs.form import DryRun, IdempotencyKey, JobFormDep, form_router
from api.jobs.retrain import retrain
from api.jobs.submission import SubmissionDep
from api.threads import REQUESTS, UPLOADS
from clipcite.wire.adapt import Preflight, Retraining
from clipcite.wire.jobs import EventList, Job, JobPage, Status, Until
from core.settings import Settings

router = APIRouter(prefix="/jobs", tags=["jobs"])
MAX_SEQ = 2**31 - 1
STREAM_EXAMPLE = """event: log
data: {"seq":2,"at":"2026-11-25T02:05:12.789436Z","type":"started","data":{"worker":"gpu1:4711"}}
id: 2

event: progress
data: {"seq":9,"at":"2026-11-25T02:05:20.011273Z","type":"progress","data":{"stage":"training"}}
id: 9

event: done
data: {"seq":31,"at":"2026-11-25T02:06:03.690667Z","type":"succeeded","data":{"model_id":"mdl_01m8…"}}
id: 31

"""
Wait = Annotated[
    float,
    Query(ge=0, le=60, description="Maximum wait (long polling), in seconds."),
]
WaitUntil = Annotated[
    Until,
    Query(description="With `wait`: `end` waits for the end of the job, `model` until it has a model."),
]
AfterSeq = Annotated[int, Query(ge=0, le=MAX_SEQ, description="Only events with a greater `seq`.")]
LastEventId = Annotated[
    int | None,
    Header(
        ge=0,
        le=MAX_SEQ,
        description="Resume a stream after this `id`. Browsers send this header automatically.",
    ),
]


@router.get("", responses=responses(401, 422, 503))
@REQUESTS.runs
def list_jobs(
    database: DatabaseDep,
    owner: CurrentOwner,
    status: Status | None = None,
    limit: Limit = 20,
    after: After = None,
) -> JobPage:
    """List your training jobs, newest first."""
    return service.list_jobs(database, owner, status, limit, after)


@router.get("/{job_id}", responses=responses(401, 404, 422, 503))
async def get_job(
    request: Request,
    source: EventSourceDep,
    owner: CurrentOwner,
    job_id: str,
    wait: Wait = 0,
    until: WaitUntil = "end",
) -> Job:
    """Return a job. With `wait` the response is delayed until the job has ended, or until the time is up.

    A model can be used as soon as the job has a `model_id`. Its evaluation follows, and then the report.
    """
    return await service.wait_for_job(request, source, owner, job_id, wait, until)


@router.post("/{job_id}/cancel", status_code=202, responses=responses(401, 404, 409, 422, 503, 507))
@REQUESTS.runs
def cancel_job(database: DatabaseDep, owner: CurrentOwner, job_id: str) -> Job:
    """Cancel a job: a queued one at once, a running one within seconds. Repeating is harmless.

    A job that has a model loses only its evaluation: it succeeds, with the warning `evaluation_cancelled`.
    """
    return service.cancel_job(database, owner, job_id)


@router.post(
    "/{job_id}/retrain",
    status_code=202,
    response_model=Job,
    responses=responses(400, 401, 404, 408, 409, 413, 422, 503, 507),
)
@UPLOADS.runs
def retrain_job(
    submission: SubmissionDep,
    job_id: str,
    changes: Retraining,
    owner: CurrentOwner,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Train again from a job's stored images, with corrected labels or other settings.

    The response is a new job. The job itself and its model do not change. All settings that `config` leaves
    out are those of the job. With the job's name, the new model becomes the next version of that name.
    """
    return retrain(submission, job_id, changes, idempotency_key, owner)


@router.delete("/{job_id}", status_code=204, responses=responses(401, 404, 409, 422, 503, 507))
@UPLOADS.runs
def delete_job(
    database: DatabaseDep, blobs: BlobsDep, serving: ServingDep, owner: CurrentOwner, job_id: str
) -> None:
    """Delete a job with its images, events and report. Its model is kept."""
    service.delete_job(database, blobs, serving, owner, job_id)


@router.get("/{job_id}/preflight", responses=responses(401, 404, 422, 503))
@UPLOADS.runs
def get_preflight(database: DatabaseDep, blobs: BlobsDep, owner: CurrentOwner, job_id: str) -> Preflight:
    """Return the preflight of a job: findings per image, and the estimated duration and memory."""
    return service.get_preflight(database, blobs, owner, job_id)


@router.get(
    "/{job_id}/events",
    response_model=EventList,
    responses={
        200: {
            "description": "List of events, or with `Accept: text/event-stream` a stream of them.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": STREAM_EXAMPLE}},
        },
        204: {"description": "End of the stream: the job has ended, and `done` was already sent."},
        **responses(401, 404, 422, 503),
    },
)
@REQUESTS.runs
def list_events(
    source: EventSourceDep,
    owner: CurrentOwner,
    job_id: str,
    after: AfterSeq = 0,
    last_event_id: LastEventId = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Any:
    """List or stream the events of a job, in the order of `seq`.

    With `Accept: text/event-stream` the response is a stream until the job ends. Its events are `progress`
    during training (at most one per second), `done` at the end, and `log` for everything else. The `id` of
    an event is its `seq`, and its data is the same object as in the list. The `type` of `done` is the final
    status of the job.

    A stream ends after 15 minutes at the latest. Resume it, like a lost stream, with `Last-Event-ID`, at any
    process of the service.

    Progress is kept until a week after the end, one event per percent of each stage.
    """
    return answer_events(source, owner, job_id, after, last_event_id, accept)


def make_adapt_router(settings: Settings) -> APIRouter:
    return form_router(settings, "adapt", "/adapt", adapt, 400, 401, 408, 409, 413, 422, 503, 507)


def adapt(
    submission: SubmissionDep,
    form: JobFormDep,
    owner: CurrentOwner,
    dry_run: DryRun = False,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Upload labelled images and start a training job.

    The minimum is 2 classes with 1 image each; 4 to 16 images per class work well. Every image is checked
    before the response. The job's `warnings` summarise problems with images, class names and class balance,
    and `GET /jobs/{id}/preflight` has the findings per image. Poll the job with `GET /jobs/{id}`.

    With an `Idempotency-Key` a request can be repeated safely if its response was lost. For 24 hours the same
    key returns the first request's job, with the header `Idempotency-Replayed: true`.
    """
    return submission.submit(form, owner, dry_run=dry_run, idempotency_key=idempotency_key)
