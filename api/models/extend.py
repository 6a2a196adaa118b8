"""POST /models/{id}/extend: more pictures or classes for a model, from the pictures that were kept."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, cast

from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile
from fastapi.responses import JSONResponse

from api.deps import BlobsDep, CurrentOwner, DatabaseDep, ModelRef, ServingDep, SettingsDep
from api.forms import JsonText, Text
from api.jobs.routes import PREFLIGHT_RESPONSE, IdempotencyKey, form_router
from api.jobs.schemas import JobOut
from api.jobs.submission import check_fields, checked_webhook, make_job, parse_config
from api.jobs.upload import ExistingImage, Upload
from api.problems import InvalidRequest, json_or_invalid, responses
from api.threads import UPLOADS
from core.settings import MAX_IMAGES, Settings
from core.store.db.tables import Picture
from core.store.errors import JobNotFound, ShotsGone
from core.store.jobs import jobs
from core.store.registry import models
from core.store.registry.references import clean_name
from core.store.storage.blobs import Blobs


@dataclass(frozen=True)
class _Stored:
    """The pictures of the model's job; iterating brings them into the folder."""

    rows: Sequence[Picture]
    blobs: Blobs
    folder: Path

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ExistingImage]:
        for row in self.rows:
            file = self.folder / f"kept-{row.position:05d}"
            self.blobs.fetch(row.blob_key, file, sha256=row.sha256)
            split = cast(Literal["train", "test"], row.split)
            yield ExistingImage(split, row.class_name, row.file_name, file)


def make_extend_router(settings: Settings) -> APIRouter:
    router = form_router(settings, "models")
    problems = responses(400, 401, 404, 408, 409, 413, 422, 503, 507)
    router.post(
        "/models/{model_id}/extend",
        status_code=202,
        response_model=JobOut,
        responses={200: PREFLIGHT_RESPONSE, **problems},
    )(UPLOADS.runs(extend))
    return router


def extend(
    *,
    request: Request,
    response: Response,
    settings: SettingsDep,
    database: DatabaseDep,
    blobs: BlobsDep,
    serving: ServingDep,
    owner: CurrentOwner,
    model_id: ModelRef,
    archive: Annotated[UploadFile | None, File(description="As for POST /adapt.")] = None,
    images: Annotated[list[UploadFile], File(default_factory=list, max_length=MAX_IMAGES)],
    labels: Annotated[
        list[Text],
        Form(
            default_factory=list,
            max_length=MAX_IMAGES,
            description="Classes that the model has, or others.",
        ),
    ],
    test_images: Annotated[list[UploadFile], File(default_factory=list, max_length=MAX_IMAGES)],
    test_labels: Annotated[list[Text], Form(default_factory=list, max_length=MAX_IMAGES)],
    name: Annotated[
        Text | None, Form(description="Default the model's, of which it is the next version.")
    ] = None,
    config: Annotated[
        JsonText | None,
        Form(description="Settings to change, as for POST /adapt; the others are the model's."),
    ] = None,
    on_bad_image: Literal["fail", "skip"] = Form("fail"),
    webhook: Annotated[Text | None, Form(description="As for POST /adapt.")] = None,
    dry_run: Annotated[bool, Query(description="Only look, as for POST /adapt.")] = False,
    idempotency_key: IdempotencyKey = None,
) -> JobOut | JSONResponse:
    """Train the model anew with more pictures or more classes: a job like any other.

    It starts from the backbone, with all pictures that the model was made from and those that are sent.
    The model itself stays as it is. Its pictures are stored with its job: once that is deleted, 409.
    """
    check_fields(request)
    with database.read() as session:
        model = models.resolve(session, model_id, owner=owner)
        if model.job_id is None:  # imported
            raise ShotsGone(model_id)
        try:
            job = jobs.get(session, model.job_id, owner=owner)
        except JobNotFound as error:
            raise ShotsGone(model_id) from error
        rows = jobs.pictures(session, job.id)
    if not rows:
        raise ShotsGone(model_id)
    changes = json_or_invalid(config, "/config") if config and config.strip() else {}
    if not isinstance(changes, dict):
        raise InvalidRequest(
            "config must be an object.", [{"pointer": "/config", "detail": "Not an object."}]
        )

    return make_job(
        response=response,
        settings=settings,
        database=database,
        blobs=blobs,
        serving=serving,
        owner=owner,
        resolved=parse_config(json.dumps({**job.config, **changes}), settings),
        name=clean_name(name) or model.name,
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
        kept=partial(_Stored, rows, blobs),
    )
