"""Routes of POST /adapt and /jobs: create, follow, cancel and delete training jobs."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse

from api.deps import After, BlobsDep, CurrentOwner, DatabaseDep, Limit, ServingDep
from api.http.forms import form_body, json_body
from api.http.problems import parsed_json, responses
from api.jobs import event_stream
from api.jobs.event_stream import STREAM_HEADERS, EventSourceDep, to_event
from api.jobs.form import PREFLIGHT, DryRun, IdempotencyKey, JobForm, JobFormDep, check_source
from api.jobs.layout import place_files
from api.jobs.pile_shots import pile_shots
from api.jobs.responses import job_response, to_job
from api.jobs.retrain import changed_settings, checked_moves, corrected_images
from api.jobs.submission import SubmissionDep, parse_config
from api.threads import REQUESTS, UPLOADS
from clipcite.types.adapt import AdaptConfig, Layout, LayoutJson, Retraining
from clipcite.types.jobs import FINAL, EventList, Job, JobPage, Status, Until
from core.store.accounts import audit
from core.store.db.pagination import cursor_of
from core.store.db.session import Database
from core.store.errors import ShotsGone
from core.store.jobs import fair_queue, jobs, lifecycle
from core.store.jobs.lifecycle import PUBLISHED
from core.store.registry import models
from core.store.registry.references import clean_name
from core.store.storage import deletions

router = APIRouter(prefix="/jobs", tags=["jobs"])
adapt_router = APIRouter(tags=["adapt"])
MAX_SEQ = 2**31 - 1
BYTES_PER_FOLDER = 64
"""Memory that each folder of a path may take (bytes), however short its name."""
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
    with database.read() as session:
        page, more = jobs.list_page(session, owner=owner, status=status, limit=limit, after=after)
        positions, of_job = fair_queue.positions(session, page), models.of_jobs(session, page)
    data = [to_job(job, positions.get(job.id), of_job.get(job.id)) for job in page]
    return JobPage(data=data, has_more=more, next_cursor=cursor_of(page[-1]) if more else None)


@router.get("/{job_id}", responses=responses(401, 404, 422, 503))
async def get_job(
    request: Request,
    source: EventSourceDep,
    owner: CurrentOwner,
    job_id: str,
    wait: Wait = 0,
    until: WaitUntil = "end",
) -> Job:
    """Return a job.

    With `wait`, the response is delayed until the job has ended, or with `until=model` has a model, or until
    the time is up.

    The model can be used as soon as the job has a `model_id`. Its evaluation and the report follow.
    """
    job = await REQUESTS.run(_get_job, source.database, owner, job_id)
    if not wait or job.reached(until):
        return job
    awaited = {*FINAL, PUBLISHED} if until == "model" else FINAL
    with source.readers.hold(owner, 1):
        # Read from the first event, because the awaited one may have come meanwhile.
        async for newer in source.follow(owner, job.id, 0, wait):
            if any(event.type in awaited for event in newer) or await request.is_disconnected():
                break
    return await REQUESTS.run(_get_job, source.database, owner, job_id)


def _get_job(database: Database, owner: str, job_id: str) -> Job:
    with database.read() as session:
        job = jobs.get(session, job_id, owner=owner)
        return job_response(session, job)


@router.post("/{job_id}/cancel", status_code=202, responses=responses(401, 404, 409, 422, 503, 507))
@REQUESTS.runs
def cancel_job(database: DatabaseDep, owner: CurrentOwner, job_id: str) -> Job:
    """Cancel a job: a queued one at once, a running one within seconds. Repeating the request is safe.

    If the job already has a model, only its evaluation is cancelled: the job succeeds, with the warning
    `evaluation_cancelled`.
    """
    with database.write() as session:
        before = jobs.get(session, job_id, owner=owner)
        ended = before.cancel_requested or before.status in FINAL
        job = lifecycle.request_cancel(session, job_id, owner=owner)
        if not ended:
            audit.record("job.cancel", job.id)
        return job_response(session, job)


@router.post(
    "/{job_id}/retrain",
    status_code=202,
    response_model=Job,
    responses={**PREFLIGHT, **responses(400, 401, 404, 408, 409, 413, 422, 503, 507)},
)
@UPLOADS.runs
def retrain_job(
    submission: SubmissionDep,
    job_id: str,
    changes: Retraining,
    owner: CurrentOwner,
    dry_run: DryRun = False,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Train again from a job's stored images, with corrected labels or other settings.

    The response is a new job. The old job and its model do not change. Settings that `config` leaves out are
    taken from the old job. With the old job's name, the new model becomes the next version of that name.
    """
    with submission.database.read() as session:
        job = jobs.get(session, job_id, owner=owner)
        rows = jobs.images(session, job.id)
    if not rows:
        raise ShotsGone(job.id)
    moved, removed = checked_moves(changes, rows), set(changes.removed)
    form = JobForm(name=clean_name(changes.name) or job.name)
    settings = changed_settings(job, changes.config or AdaptConfig())
    left = [row for row in rows if row.position not in removed]
    kept, warnings = corrected_images(left, moved, changes.confirmed)
    return submission.submit(
        form,
        owner,
        settings,
        dry_run=dry_run,
        idempotency_key=idempotency_key,
        kept=kept,
        warnings=warnings,
    )


@router.delete("/{job_id}", status_code=204, responses=responses(401, 404, 409, 422, 503, 507))
@UPLOADS.runs
def delete_job(
    database: DatabaseDep, blobs: BlobsDep, serving: ServingDep, owner: CurrentOwner, job_id: str
) -> None:
    """Delete a job with its images, events and report. Its model is kept."""
    with database.write() as session:
        lifecycle.delete(session, job_id, owner=owner)
        audit.record("job.delete", job_id)
    serving.previews.forget(job_id)
    deletions.finish(database, blobs, jobs.blobs_of(job_id))


@router.get(
    "/{job_id}/events",
    response_model=EventList,
    responses={
        200: {
            "description": "List of events, or with `Accept: text/event-stream` a stream of them.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": STREAM_EXAMPLE}},
        },
        204: {"description": "The stream is over: the job has ended, and `done` was already sent."},
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
    during training (at most one per second), `done` at the end, and `log` for all others. The `id` of an
    event is its `seq`, and its data is the same object as in the list. The `type` of `done` is the final
    status of the job.

    A stream ends after at most 15 minutes. Resume it, like an interrupted stream, with `Last-Event-ID`. Any
    process of the service can resume it.

    Events are kept until the job is deleted. One progress event is kept per percent of each
    stage.
    """
    streamed = "text/event-stream" in (part.split(";")[0].strip().lower() for part in accept.split(","))
    with source.database.read() as session:
        job = jobs.get(session, job_id, owner=owner)
        if not streamed:
            return EventList(data=[to_event(row) for row in event_stream.after(session, job.id, after)])
        last, end = event_stream.last_seq(session, job.id), event_stream.end_seq(session, job.id)
    seen = min(after if last_event_id is None else last_event_id, last)
    if end is not None and seen >= end:
        return Response(status_code=204)  # browsers reconnect until they get this status
    with source.readers.hold(owner, 1):  # before the headers are sent
        pass
    return EventSourceResponse(source.stream(owner, job.id, seen), headers=STREAM_HEADERS)


@adapt_router.post(
    "/adapt",
    status_code=202,
    response_model=Job,
    responses={**PREFLIGHT, **responses(400, 401, 404, 408, 409, 413, 422, 503, 507)},
    openapi_extra=form_body(JobForm),
)
@UPLOADS.runs
def adapt(
    submission: SubmissionDep,
    form: JobFormDep,
    owner: CurrentOwner,
    dry_run: DryRun = False,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Upload labelled images and start a training job.

    The minimum is 2 classes with 1 image each. 4 to 16 images per class work well. Every image is checked
    before the response. The job's `warnings` summarise problems with images, class names and class balance.
    With `dry_run` the response has the findings per image. Poll the job with `GET /jobs/{id}`.

    With an `Idempotency-Key` a request can be safely repeated after a lost response. For 24 hours the same
    key returns the first request's job, with the header `Idempotency-Replayed: true`.
    """
    check_source(form)
    settings = parse_config(form.config)
    with submission.database.read() as session:
        kept = pile_shots(session, form, owner).images
    return submission.submit(
        form, owner, settings, dry_run=dry_run, idempotency_key=idempotency_key, kept=kept
    )


@adapt_router.post(
    "/adapt/layout",
    response_model=Layout,
    responses=responses(401, 408, 413, 422, 503),
    openapi_extra=json_body(LayoutJson),
)
async def check_layout(request: Request, submission: SubmissionDep) -> Response:
    """Return the split and the class that files get from their folders, before an upload.

    The request contains only paths. The rules are those for an archive of `POST /adapt`: folders and names
    that it rejects are rejected here, too. Nothing is stored.
    """
    body = await request.body()
    request.state.take_memory(BYTES_PER_FOLDER * body.count(b"/"))

    def answer() -> str:
        return place_files(parsed_json(LayoutJson, body).paths, submission.settings).model_dump_json()

    return Response(await REQUESTS.run(answer), media_type="application/json")
