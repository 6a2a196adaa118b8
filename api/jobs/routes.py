"""/jobs: watch, cancel and delete adaptations."""

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, File, Form, Header, Query, Request, Response, UploadFile
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from api.deps import After, BlobsDep, CurrentOwner, DatabaseDep, EventHubDep, Limit, ServingDep, SettingsDep
from api.event_hub import Event
from api.forms import FormRoute, JsonText, Text
from api.jobs.event_stream import STREAM_HEADERS, stream
from api.jobs.schemas import EventList, JobOut, JobPage, PreflightOut, Status
from api.jobs.submission import FIELDS, check_fields, checked_webhook, make_job, parse_config
from api.jobs.upload import Upload
from api.problems import responses
from api.threads import UPLOADS
from core.settings import MAX_IMAGES, Settings
from core.store.db.pagination import cursor_of
from core.store.db.session import Database
from core.store.db.tables import FINAL
from core.store.errors import BlobNotFound, PreflightNotFound
from core.store.jobs import events, jobs
from core.store.registry.references import clean_name
from core.store.storage import deletions

router = APIRouter(prefix="/jobs", tags=["jobs"])
WAIT_POLL_SECONDS = 0.25
Wait = Annotated[float, Query(ge=0, le=60, description="Answer when the job ends, or after so many seconds.")]


def read_job(database: Database, owner: str, job_id: str) -> JobOut:
    with database.read() as session:
        job = jobs.get(session, job_id, owner=owner)
        return JobOut.of(job, jobs.queue_position(session, job))


@router.get("", responses=responses(401, 422, 503))
def list_jobs(
    database: DatabaseDep,
    owner: CurrentOwner,
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
    request: Request, database: DatabaseDep, owner: CurrentOwner, job_id: str, wait: Wait = 0
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
def cancel_job(database: DatabaseDep, owner: CurrentOwner, job_id: str) -> JobOut:
    """A queued job is cancelled at once, a running one within seconds. Calling it again is harmless."""
    with database.write() as session:
        job = jobs.request_cancel(session, job_id, owner=owner)
        return JobOut.of(job, jobs.queue_position(session, job))


@router.delete("/{job_id}", status_code=204, responses=responses(401, 404, 409, 422, 503, 507))
def delete_job(
    database: DatabaseDep, blobs: BlobsDep, serving: ServingDep, owner: CurrentOwner, job_id: str
) -> Response:
    """Remove the job and its pictures. Its model stays."""
    with database.write() as session:
        jobs.delete(session, job_id, owner=owner)
    serving.previews.forget(job_id)
    deletions.finish(database, blobs, jobs.blobs_of(job_id))
    return Response(status_code=204)


@router.get("/{job_id}/preflight", responses=responses(401, 404, 422, 503))
def get_preflight(database: DatabaseDep, blobs: BlobsDep, owner: CurrentOwner, job_id: str) -> PreflightOut:
    """What was found in the job's pictures, one by one, and what it was expected to take."""
    with database.read() as session:
        job = jobs.get(session, job_id, owner=owner)
    try:
        return PreflightOut.model_validate_json(blobs.get(jobs.preflight_of(job.id)))
    except BlobNotFound as error:
        raise PreflightNotFound(job.id) from error


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


AfterSeq = Annotated[int, Query(ge=0, le=MAX_SEQ, description="Only events with a greater `seq`.")]


LastEventId = Annotated[
    int | None,
    Header(
        ge=0, le=MAX_SEQ, description="For a stream: go on after this `id`. Browsers send it by themselves."
    ),
]


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
    it ended). Each has the `seq` as its `id`, and the entry of the list as its data. AfterSeq a lost
    connection it resumes with `Last-Event-ID`, at this or any other process of the service. It ends by itself
    after 15 minutes, and is to be resumed then too.

    Of `progress` the last entry for each percent of a stage is kept, until a week after the end.
    """
    streamed = "text/event-stream" in (part.split(";")[0].strip().lower() for part in accept.split(","))
    with database.read() as session:
        if not streamed:
            return EventList(
                data=[Event.of(event) for event in jobs.events(session, job_id, after, owner=owner)]
            )
        job = jobs.get(session, job_id, owner=owner)
        last = events.last_seq(session, job.id)
        end = events.end_seq(session, job.id)
    seen = min(after if last_event_id is None else last_event_id, last)
    if end is not None and seen >= end:
        return Response(status_code=204)  # a browser asks again after every end, until it hears this
    feed.check_room(owner)
    return EventSourceResponse(stream(feed, job.id, seen, owner), headers=STREAM_HEADERS)


IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern=r"^[!-~]{1,255}$",
        description="Any text of your own (a UUID, say): the request sent again with it makes no second job.",
    ),
]


PREFLIGHT_RESPONSE = {
    "model": PreflightOut,
    "description": "With `dry_run`: the preflight. Nothing was stored.",
}


def make_router(settings: Settings) -> APIRouter:
    router = form_router(settings, "adapt")
    problems = responses(400, 401, 408, 409, 413, 422, 503, 507)
    router.post(
        "/adapt", status_code=202, response_model=JobOut, responses={200: PREFLIGHT_RESPONSE, **problems}
    )(UPLOADS.runs(adapt))
    return router


def form_router(settings: Settings, tag: str) -> APIRouter:
    """A router of its own, for its own limits on the number of files."""
    # One more than allowed gets through, so that our own error, which says more, is the answer.
    parts = settings.max_pictures + 1
    return APIRouter(
        tags=[tag],
        route_class=FormRoute,
        form_limits={"max_files": parts + 1, "max_fields": parts + len(FIELDS)},
    )


def adapt(
    *,
    request: Request,
    response: Response,
    settings: SettingsDep,
    database: DatabaseDep,
    blobs: BlobsDep,
    serving: ServingDep,
    owner: CurrentOwner,
    archive: Annotated[
        UploadFile | None,
        File(description="One .zip: a folder per class, or train/ and test/ of such folders."),
    ] = None,
    images: Annotated[
        list[UploadFile],
        File(
            default_factory=list,
            max_length=MAX_IMAGES,
            description="Or pictures one by one, with `labels`.",
        ),
    ],
    labels: Annotated[
        list[Text],
        Form(
            default_factory=list,
            max_length=MAX_IMAGES,
            description="The class name of each picture, same order.",
        ),
    ],
    test_images: Annotated[
        list[UploadFile],
        File(default_factory=list, max_length=MAX_IMAGES, description="Pictures to measure the result on."),
    ],
    test_labels: Annotated[list[Text], Form(default_factory=list, max_length=MAX_IMAGES)],
    name: Annotated[
        Text | None,
        Form(
            description="A name for the job and its model, which is the next version of that name. Without @ "
            "and /, and not like a model's id or `stock`."
        ),
    ] = None,
    config: Annotated[
        JsonText | None,
        Form(
            description="A JSON object of settings, all optional; what is left out comes from the backbone's "
            "recipe.",
            examples=['{"epochs": 10, "alpha": 0.5, "holdout": 0.2}'],
        ),
    ] = None,
    on_bad_image: Annotated[
        Literal["fail", "skip"], Form(description="Refuse the upload, or go on without the bad pictures.")
    ] = "fail",
    webhook: Annotated[
        Text | None,
        Form(
            description="A URL that is told when the job has ended: a POST of `job.succeeded`, `job.failed` "
            "or `job.cancelled`, signed as Standard Webhooks say, sent again for a day until it is taken.",
            examples=["https://example.com/hooks/clipcite"],
        ),
    ] = None,
    dry_run: Annotated[
        bool, Query(description="Only look: answer 200 with the preflight, and store nothing.")
    ] = False,
    idempotency_key: IdempotencyKey = None,
) -> JobOut | JSONResponse:
    """Upload labelled pictures and start an adaptation.

    At least 2 classes with a picture each; 4 to 16 pictures a class work well. Every picture is checked
    before the answer, and what is odd about pictures, class names and their balance is in the job's
    `warnings`; GET /jobs/{id}/preflight has it picture by picture. Poll the job with GET /jobs/{id}.

    With an `Idempotency-Key` a request may be sent again when its answer was lost: for 24 hours it gets
    the job that it made the first time, with `Idempotency-Replayed: true`.
    """
    check_fields(request)
    return make_job(
        response=response,
        settings=settings,
        database=database,
        blobs=blobs,
        serving=serving,
        owner=owner,
        resolved=parse_config(config, settings),
        name=clean_name(name),
        webhook=checked_webhook(webhook, settings),
        on_bad_image=on_bad_image,
        dry_run=dry_run,
        idempotency_key=idempotency_key,
        uploads={
            "archive": cast(Upload | None, archive),
            "images": cast(Sequence[Upload], images),
            "labels": labels,
            "test_images": cast(Sequence[Upload], test_images),
            "test_labels": test_labels,
        },
    )
