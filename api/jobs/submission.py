"""POST /adapt: pictures in, a job out."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from api.jobs.fingerprint import fingerprint
from api.jobs.preflight import preflight
from api.jobs.schemas import ConfigIn, JobOut
from api.jobs.upload import ExistingImages, ValidatedUpload, validate_upload
from api.problems import InvalidRequest, invalid_model, json_or_invalid
from core.clip.config import AdaptConfig, resolve_config
from core.clip.errors import UnknownBackbone
from core.clip.prompts import same_class
from core.scratch import scratch_folder
from core.serving.previews import JobPreview
from core.serving.service import Serving
from core.settings import Settings
from core.store import submission
from core.store.accounts import idempotency
from core.store.accounts.idempotency import IdempotencyClaim
from core.store.db.ids import new_id
from core.store.db.session import Database
from core.store.errors import DatabaseUnavailable
from core.store.jobs import history, jobs
from core.store.jobs.jobs import NewPicture
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
    kept: Callable[[Path], ExistingImages] = lambda folder: [],
) -> JobOut | JSONResponse:
    """A job of uploaded pictures, or what was made of the same request before, or only its preflight.

    Args:
        uploads: as `validate_upload` takes them.
        kept: pictures of an earlier job, which come into a folder once the form is found good.
    """
    with database.read() as session:
        if not dry_run:
            submission.precheck_quotas(session, owner, idempotency_key, settings)
        past = history.recent_successes(session, backbone=resolved.backbone, image_size=resolved.image_size)
    with scratch_folder(settings.scratch()) as folder:
        intake = validate_upload(
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
            once = IdempotencyClaim(idempotency_key, asked)
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
                job = submission.submit_job(
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
    lost_race = job.id != job_id
    if lost_race:
        blobs.delete_prefix(jobs.blobs_of(job_id))
    else:
        serving.prepare_preview(coming)
    return _accepted(response, answer, replayed=lost_race)


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


def _store(intake: ValidatedUpload, blobs: Blobs, job_id: str) -> list[NewPicture]:
    pictures = []
    for position, shot in enumerate(intake.pictures):
        key = f"{jobs.blobs_of(job_id)}/{position:05d}"
        blobs.put(key, shot.read())
        pictures.append(NewPicture(shot.split, shot.class_name, shot.file_name, key, shot.sha256, shot.bytes))
    return pictures


def _config_warnings(config: AdaptConfig, intake: ValidatedUpload) -> list[dict[str, Any]]:
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
