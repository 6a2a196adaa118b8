"""Routes of /models: read, rename, delete, extend, export and import models."""

import os
import re
from contextlib import ExitStack
from typing import Annotated

from fastapi import APIRouter, Query, Response
from starlette.responses import StreamingResponse

from api.deps import BlobsDep, CurrentOwner, DatabaseDep, ModelRef, ScratchDep, ServingDep
from api.http.forms import form_body, form_of
from api.http.problems import InvalidRequest, responses
from api.jobs.form import PREFLIGHT, DryRun, IdempotencyKey, JobForm, JobFormDep, check_source
from api.jobs.pile_shots import pile_shots
from api.jobs.retrain import changed_settings, corrected_images, stored_corrections, trained_from
from api.jobs.submission import SubmissionDep, parse_config
from api.models.exports import ZIP, Download, export
from api.models.imports import ImporterDep, ImportForm
from api.models.responses import to_model
from api.threads import MODELS, REQUESTS, UPLOADS
from clipcite.types.jobs import Job
from clipcite.types.models import ExportFormat, Model, ModelPage, ModelPatch, ModelQuery
from core.clip.config import round_alpha
from core.store.accounts import audit
from core.store.db.pagination import cursor_of
from core.store.jobs import jobs
from core.store.registry import models
from core.store.registry.references import clean_name
from core.store.storage import deletions

router = APIRouter(prefix="/models", tags=["models"])


@router.get("", responses=responses(401, 422, 503))
@REQUESTS.runs
def list_models(
    database: DatabaseDep, owner: CurrentOwner, query: Annotated[ModelQuery, Query()]
) -> ModelPage:
    """List your models, newest first. All filters must match."""
    with database.read() as session:
        page, more = models.list_page(session, owner=owner, **query.model_dump())
        aliases = models.aliases_of(session, page)
    data = [to_model(model, aliases.get(model.id, ())) for model in page]
    return ModelPage(data=data, has_more=more, next_cursor=cursor_of(page[-1]) if more else None)


@router.get("/{model_id}", responses=responses(401, 404, 422, 503))
@REQUESTS.runs
def get_model(database: DatabaseDep, owner: CurrentOwner, model_id: ModelRef) -> Model:
    """Return a model."""
    with database.read() as session:
        model = models.resolve(session, model_id, owner=owner)
        return to_model(model, models.pointing(session, model))


@router.patch("/{model_id}", responses=responses(400, 401, 404, 408, 409, 413, 422, 503, 507))
@REQUESTS.runs
def rename_model(database: DatabaseDep, owner: CurrentOwner, model_id: ModelRef, patch: ModelPatch) -> Model:
    """Rename a model, remove its name, or promote it.

    A renamed model becomes the next version of that name. Its old version number is never reused. A model
    with aliases can't be renamed. With `promoted` the name refers to this version, even if the model is worse
    than the pre-trained one.
    """
    if "name" not in patch.model_fields_set and not patch.promoted:
        raise InvalidRequest("The object changes nothing. Send `name`, or `promoted` with the value true.")
    with database.write() as session:
        if "name" in patch.model_fields_set:
            model = models.rename(session, model_id, clean_name(patch.name), owner=owner)
            audit.record("model.rename", model.id)
            model_id = model.id
        if patch.promoted:
            model = models.promote(session, model_id, owner=owner)
            audit.record("model.promote", model.id)
        return to_model(model, models.pointing(session, model))


@router.delete("/{model_id}", status_code=204, responses=responses(401, 404, 409, 422, 503, 507))
@UPLOADS.runs
def delete_model(
    database: DatabaseDep,
    blobs: BlobsDep,
    serving: ServingDep,
    owner: CurrentOwner,
    model_id: ModelRef,
    force: Annotated[bool, Query(description="Delete the model's aliases too.")] = False,
) -> None:
    """Delete a model and its weights. Requests in progress can finish."""
    with database.write() as session:
        model = models.delete(session, model_id, owner=owner, force=force)
        audit.record("model.delete", model.id)
    try:
        deletions.finish(database, blobs, models.blobs_of(model.id))
    finally:
        serving.forget(model.id)  # last, so that no request loads the model afterwards


@router.get(
    "/{model_id}/export",
    response_class=StreamingResponse,
    responses={
        200: {"content": {ZIP: {"schema": {"type": "string", "format": "binary"}}}},
        **responses(401, 404, 422, 500, 501, 503, 507),
    },
)
@MODELS.runs
def export_model(
    *,
    serving: ServingDep,
    scratch: ScratchDep,
    owner: CurrentOwner,
    model_id: ModelRef,
    alpha: Annotated[
        float | None,
        Query(
            ge=0,
            le=1,
            description="Mixing weight from 0 (stock) to 1 (fine-tuned), rounded to 0.01. Default: the "
            "model's.",
        ),
    ] = None,
    format: Annotated[
        ExportFormat,
        Query(
            description="`open_clip`: a folder that open_clip loads. `onnx`: one ONNX graph per tower. "
            "`delta`: only the difference from the backbone, for POST /models of a service that has the "
            "backbone. `classifier`: one ONNX graph from images to the probabilities of the trained classes. "
            "`transformers`: a CLIPModel. `immich`: the files that Immich loads."
        ),
    ] = "open_clip",
    names: Annotated[list[str] | None, Query(description="Class names; default: the trained ones.")] = None,
) -> StreamingResponse:
    """Download a model at one alpha, as a zip with a model card."""
    with serving.database.read() as session:
        model = models.resolve(session, model_id, owner=owner)
    with ExitStack() as opened:
        # The file counts as a temporary file of the owner until it is sent, but at most as an owner's half.
        take = opened.enter_context(scratch.hold(owner))
        archive = opened.enter_context(
            export(
                serving.settings,
                serving.engine.pool,
                serving.blobs,
                model,
                model.alpha if alpha is None else round_alpha(alpha),
                format,
                names,
                take=lambda size: take(min(size, scratch.share)),
            )
        )
        held = opened.pop_all()
    name = f"{re.sub(r'[^A-Za-z0-9_-]', '', model.id)}-{format}.zip"
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Length": str(os.fstat(archive.fileno()).st_size),
    }
    return Download(archive, held, headers)


@router.post(
    "",
    status_code=201,
    responses=responses(400, 401, 408, 409, 413, 422, 503, 507),
    openapi_extra=form_body(ImportForm),
)
@MODELS.runs
def import_model(
    response: Response,
    importer: ImporterDep,
    form: Annotated[ImportForm, form_of(ImportForm)],
    owner: CurrentOwner,
) -> Model:
    """Import a model that was trained elsewhere.

    The service must have the model's backbone. It stores only the difference from the backbone. The imported
    model works like any other.
    """
    return importer.run(form, owner, response)


@router.post(
    "/{model_id}/extend",
    status_code=202,
    response_model=Job,
    responses={**PREFLIGHT, **responses(400, 401, 404, 408, 409, 413, 422, 503, 507)},
    openapi_extra=form_body(JobForm),
)
@UPLOADS.runs
def extend(
    submission: SubmissionDep,
    model_id: ModelRef,
    form: JobFormDep,
    owner: CurrentOwner,
    dry_run: DryRun = False,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Train a new model on the model's images, its corrections and more images.

    The job starts from the backbone. It uses the images of the model's job, the corrections and the images of
    the request. The request needs no images if there are corrections. The model itself does not change. If
    its job was deleted, its images are gone and the response is 409.

    `labels` may contain old and new classes. `config` contains only changed settings. Without `name` the new
    model becomes the next version of this one.
    """
    with submission.database.read() as session:
        model, job = trained_from(session, model_id, owner=owner)
        rows, right = jobs.images(session, job.id), stored_corrections(session, model)
        pile = pile_shots(session, form, owner)
    check_source(form, optional=bool(right))
    classes, known = {row.sha256: row.class_name for row in right}, {row.sha256 for row in rows}
    moved = {row.position: classes[row.sha256] for row in rows if row.sha256 in classes}
    new = [row for row in right if row.sha256 not in known]
    settings = changed_settings(job, parse_config(form.config))
    left = [row for row in (*rows, *new) if row.sha256 not in pile.replaced]
    kept, warnings = corrected_images(left, moved)
    return submission.submit(
        form.model_copy(update={"name": clean_name(form.name) or model.name}),
        owner,
        settings,
        dry_run=dry_run,
        idempotency_key=idempotency_key,
        kept=[*kept, *pile.images],
        warnings=warnings,
    )
