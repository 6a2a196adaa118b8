"""POST /adapt: pictures in, a job out."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, File, Form, Header, Query, Request, Response, UploadFile
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from api.deps import TheBlobs, TheDatabase, TheOwner, TheServing, TheSettings
from api.forms import FormRoute, JsonText, Text
from api.jobs.config import ConfigIn
from api.jobs.fingerprint import fingerprint
from api.jobs.preflight import preflight
from api.jobs.preflight_routes import PreflightOut
from api.jobs.routes import JobOut
from api.jobs.upload import Intake, KeptPictures, Upload, collect
from api.problems import InvalidRequest, invalid_model, json_or_invalid, responses
from api.threads import UPLOADS
from core.clip.config import AdaptConfig, resolve_config
from core.clip.errors import UnknownBackbone
from core.clip.prompts import same_class
from core.scratch import scratch_folder
from core.serving.previews import JobPreview
from core.serving.service import Serving
from core.settings import MOST_PICTURES, Settings
from core.store import submission
from core.store.accounts import idempotency
from core.store.accounts.idempotency import Once
from core.store.db.ids import new_id
from core.store.db.session import Database
from core.store.errors import DatabaseUnavailable
from core.store.jobs import history, jobs
from core.store.jobs.jobs import NewPicture
from core.store.registry.references import clean_name
from core.store.storage.blobs import Blobs
from core.url_guard import InvalidDestination, NotPublic, parse

FIELDS = (
    "archive",
    "images",
    "labels",
    "test_images",
    "test_labels",
    "name",
    "config",
    "on_bad_image",
    "webhook",
)
ONCE = {"archive", "name", "config", "on_bad_image", "webhook"}
POLL_SECONDS = 2
IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern=r"^[!-~]{1,255}$",
        description="Any text of your own (a UUID, say): the request sent again with it makes no second job.",
    ),
]


LOOKED = {"model": PreflightOut, "description": "With `dry_run`: the preflight. Nothing was stored."}


def make_router(settings: Settings) -> APIRouter:
    router = form_router(settings, "adapt")
    problems = responses(400, 401, 408, 409, 413, 422, 503, 507)
    router.post("/adapt", status_code=202, response_model=JobOut, responses={200: LOOKED, **problems})(
        UPLOADS.runs(adapt)
    )
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
    settings: TheSettings,
    database: TheDatabase,
    blobs: TheBlobs,
    serving: TheServing,
    owner: TheOwner,
    archive: Annotated[
        UploadFile | None,
        File(description="One .zip: a folder per class, or train/ and test/ of such folders."),
    ] = None,
    images: Annotated[
        list[UploadFile],
        File(
            default_factory=list,
            max_length=MOST_PICTURES,
            description="Or pictures one by one, with `labels`.",
        ),
    ],
    labels: Annotated[
        list[Text],
        Form(
            default_factory=list,
            max_length=MOST_PICTURES,
            description="The class name of each picture, same order.",
        ),
    ],
    test_images: Annotated[
        list[UploadFile],
        File(
            default_factory=list, max_length=MOST_PICTURES, description="Pictures to measure the result on."
        ),
    ],
    test_labels: Annotated[list[Text], Form(default_factory=list, max_length=MOST_PICTURES)],
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


def make_job(
    *,
    response: Response,
    settings: Settings,
    database: Database,
    blobs: Blobs,
    serving: Serving,
    owner: str,
    resolved: AdaptConfig,
    name: str | None,
    webhook: str | None,
    on_bad_image: Literal["fail", "skip"],
    dry_run: bool,
    idempotency_key: str | None,
    uploads: dict[str, Any],
    kept: Callable[[Path], KeptPictures] = lambda folder: [],
) -> JobOut | JSONResponse:
    """A job of uploaded pictures, or what was made of the same request before, or only its preflight.

    Args:
        uploads: as `collect` takes them.
        kept: pictures of an earlier job, which come into a folder once the form is found good.
    """
    with database.read() as session:
        if not dry_run:
            submission.check_early(session, owner, idempotency_key, settings)
        past = history.succeeded(session, backbone=resolved.backbone, image_size=resolved.image_size)
    with scratch_folder(settings.scratch()) as folder:
        intake = collect(
            folder=folder,
            settings=settings,
            decoders=serving.decoding,
            owner=owner,
            on_bad_image="skip" if dry_run else on_bad_image,
            kept=kept(folder),
            **uploads,
        )
        looked = preflight(
            intake,
            resolved,
            past,
            more_warnings=_config_warnings(resolved, intake),
            skips_bad=on_bad_image == "skip",
        )
        if dry_run:
            return JSONResponse(looked.model_dump(mode="json"))
        once = None
        if idempotency_key is not None:
            asked = fingerprint(intake, resolved, name=name, on_bad_image=on_bad_image, webhook=webhook)
            once = Once(idempotency_key, asked)
            with database.read() as session:
                job = idempotency.find(session, owner, once)
                if job is not None:
                    return _accepted(
                        response, JobOut.of(job, jobs.queue_position(session, job)), replayed=True
                    )
        job_id = new_id("job")
        committing = False
        try:
            pictures = _store(intake, blobs, job_id)
            blobs.put(jobs.preflight_of(job_id), looked.model_dump_json().encode())
            with database.write() as session:
                job = submission.admit(
                    session,
                    settings,
                    once,
                    job_id=job_id,
                    owner=owner,
                    name=name,
                    config=resolved.to_dict(),
                    classes=[dict(count) for count in intake.classes],
                    warnings=[warning.model_dump() for warning in looked.warnings],
                    pictures=pictures,
                    webhook=webhook,
                )
                answer = JobOut.of(job, jobs.queue_position(session, job))
                coming = JobPreview.of(job)
                committing = True
        except DatabaseUnavailable:
            # Perhaps it was committed all the same; the sweep removes what nobody owns.
            if not committing:
                blobs.delete_prefix(jobs.blobs_of(job_id))
            raise
        except BaseException:
            blobs.delete_prefix(jobs.blobs_of(job_id))
            raise
    twin_was_faster = job.id != job_id
    if twin_was_faster:
        blobs.delete_prefix(jobs.blobs_of(job_id))
    else:
        serving.prepare_preview(coming)
    return _accepted(response, answer, replayed=twin_was_faster)


def _accepted(response: Response, job: JobOut, *, replayed: bool) -> JobOut:
    response.headers["Location"] = f"/jobs/{job.id}"
    response.headers["Retry-After"] = str(POLL_SECONDS)
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return job


def parse_config(text: str | None, settings: Settings) -> AdaptConfig:
    """The resolved settings of a job.

    Raises:
        InvalidRequest: not JSON, an unknown field or a wrong type.
        InvalidConfig: a value out of its range.
        UnknownBackbone: not on the operator's list.
    """
    parsed = json_or_invalid(text, "/config") if text and text.strip() else {}
    try:
        given = ConfigIn.model_validate(parsed).model_dump(exclude_none=True)
    except ValidationError as error:
        raise invalid_model(error, "/config") from error
    named = given.pop("backbone", settings.backbone)
    backbone = settings.known_backbone(named)
    if backbone is None:
        raise UnknownBackbone(
            f"There is no backbone {named!r} here. Leave it out for {settings.backbone!r}; the operator "
            "lists others in CLIPCITE_BACKBONES, or folders below CLIPCITE_BACKBONE_FOLDER."
        )
    return resolve_config(backbone=backbone, **given)


def _store(intake: Intake, blobs: Blobs, job_id: str) -> list[NewPicture]:
    pictures = []
    for position, shot in enumerate(intake.pictures):
        key = f"{jobs.blobs_of(job_id)}/{position:05d}"
        blobs.put(key, shot.read())
        pictures.append(NewPicture(shot.split, shot.class_name, shot.file_name, key, shot.sha256, shot.bytes))
    return pictures


def _config_warnings(config: AdaptConfig, intake: Intake) -> list[dict[str, Any]]:
    warnings = []
    known = {same_class(count["name"]) for count in intake.classes}
    unused = [name for name in config.texts if same_class(name) not in known]
    if unused:
        warnings.append(
            {
                "code": "texts_unused",
                "detail": f"config.texts names classes that have no pictures: {', '.join(unused[:5])}.",
            }
        )
    if config.holdout and any(count["test_images"] for count in intake.classes):
        warnings.append(
            {
                "code": "holdout_unused",
                "detail": "There are test pictures, so nothing is held out of the training.",
            }
        )
    return warnings


def check_fields(request: Request) -> None:
    form = request._form  # parsed by FastAPI for the parameters above
    given = Counter(name for name, _ in (form.multi_items() if form else ()))
    repeated = [name for name in given if name in ONCE and given[name] > 1]
    if repeated:
        raise InvalidRequest(
            f"The field {repeated[0]!r} may be there once only; put everything into one.",
            [{"pointer": f"/{name}", "detail": "Given more than once."} for name in repeated],
        )
    unknown = [name for name in given if name not in FIELDS]
    if unknown:
        raise InvalidRequest(
            f"There is no field {unknown[0][:60]!r}; the fields are {', '.join(FIELDS)}.",
            [{"pointer": f"/{name[:60]}", "detail": "Unknown field."} for name in unknown],
        )


def checked_webhook(url: str | None, settings: Settings) -> str | None:
    url = (url or "").strip()
    if not url:
        return None
    try:
        parse(url, allow_private=settings.webhook_allow_private)
    except (InvalidDestination, NotPublic) as error:
        items = [{"pointer": "/webhook", "code": error.code, "detail": error.detail}]
        raise InvalidRequest(error.detail, items, code=error.code) from error
    return url
