"""/models: read, rename, delete, extend, export and import models."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from starlette.responses import StreamingResponse

from api.deps import BlobsDep, CurrentOwner, DatabaseDep, ModelRef, ServingDep, SettingsDep
from api.forms import FormRoute
from api.jobs.form import JobFormDep, form_router
from api.jobs.routes import PREFLIGHT_RESPONSE
from api.jobs.schemas import Job
from api.jobs.submission import SubmissionDep
from api.models import service
from api.models.exports import ZIP, answer_export
from api.models.extend import extend_model
from api.models.imports import FIELDS, ImportForm, ModelImport, import_form, model_import
from api.models.schemas import Model, ModelPage, ModelPatch, ModelQuery
from api.problems import responses
from api.threads import UPLOADS
from core.serving.exports import Format
from core.settings import Settings

router = APIRouter(prefix="/models", tags=["models"])
import_router = APIRouter(
    prefix="/models",
    tags=["models"],
    route_class=FormRoute,
    form_limits={"max_files": 2, "max_fields": len(FIELDS) + 1},
)


@router.get("", responses=responses(401, 422, 503))
def list_models(
    database: DatabaseDep, owner: CurrentOwner, query: Annotated[ModelQuery, Query()]
) -> ModelPage:
    """Newest first; those that fit all of the filters."""
    return service.list_models(database, owner, query)


@router.get("/{model_id}", responses=responses(401, 404, 422, 503))
def get_model(database: DatabaseDep, owner: CurrentOwner, model_id: ModelRef) -> Model:
    return service.get_model(database, owner, model_id)


@router.patch("/{model_id}", responses=responses(400, 401, 404, 408, 409, 413, 422, 503, 507))
def rename_model(database: DatabaseDep, owner: CurrentOwner, model_id: ModelRef, patch: ModelPatch) -> Model:
    """Give the model a name, or another one. What it was called before is free; its number there is not
    used again. An alias must not point to it."""
    return service.rename_model(database, owner, model_id, patch)


@router.delete("/{model_id}", status_code=204, responses=responses(401, 404, 409, 422, 503, 507))
def delete_model(
    database: DatabaseDep,
    blobs: BlobsDep,
    serving: ServingDep,
    owner: CurrentOwner,
    model_id: ModelRef,
    force: Annotated[bool, Query(description="Also when aliases point to it; they are removed too.")] = False,
) -> None:
    """Remove the model and its weights. Requests that are using it still finish."""
    service.delete_model(database, blobs, serving, owner, model_id, force=force)


@router.get(
    "/{model_id}/export",
    response_class=StreamingResponse,
    responses={
        200: {"content": {ZIP: {"schema": {"type": "string", "format": "binary"}}}},
        **responses(401, 404, 422, 500, 501, 503, 507),
    },
)
def export_model(
    *,
    settings: SettingsDep,
    database: DatabaseDep,
    blobs: BlobsDep,
    owner: CurrentOwner,
    model_id: ModelRef,
    alpha: Annotated[
        float | None, Query(ge=0, le=1, description="Rounded to 0.01; default the model's.")
    ] = None,
    format: Annotated[
        Format,
        Query(
            description="`open_clip`: a folder that open_clip loads. `onnx`: one graph for images, one for "
            "prompts. `delta`: the change of the backbone alone, for POST /models of a service that has it."
        ),
    ] = "open_clip",
) -> StreamingResponse:
    """Download the model at one α, as a zip with a model card."""
    return answer_export(settings, database, blobs, owner, model_id, alpha, format)


@import_router.post("", status_code=201, responses=responses(400, 401, 408, 409, 413, 422, 503, 507))
@UPLOADS.runs
def import_model(
    response: Response,
    importer: Annotated[ModelImport, Depends(model_import)],
    form: Annotated[ImportForm, Depends(import_form)],
    owner: CurrentOwner,
) -> Model:
    """Bring a model. It is kept as the change of a backbone that this service has, and serves like any
    other."""
    return importer.run(form, owner, response)


def make_extend_router(settings: Settings) -> APIRouter:
    extend_router = form_router(settings, "models")
    extend_router.post(
        "/models/{model_id}/extend",
        status_code=202,
        response_model=Job,
        responses={200: PREFLIGHT_RESPONSE, **responses(400, 401, 404, 408, 409, 413, 422, 503, 507)},
    )(UPLOADS.runs(extend))
    return extend_router


def extend(submission: SubmissionDep, model_id: ModelRef, form: JobFormDep, owner: CurrentOwner) -> Response:
    """Train the model anew with more images or more classes: a job like any other.

    It starts from the backbone, with all images that the model was made from and those that are sent.
    The model itself stays as it is. Its images are stored with its job: once that is deleted, 409.

    `labels` are classes that the model has, or others. `config` holds settings to change; the others are
    the model's. Without `name` the new model is the next version of this one.
    """
    return extend_model(submission, model_id, form.upload, form.options, owner)
