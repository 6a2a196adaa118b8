"""/models: adapted models."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.deps import BlobsDep, CurrentOwner, DatabaseDep, ModelRef, ServingDep
from api.models.schemas import ModelOut, ModelPage, ModelPatch, ModelQuery
from api.problems import responses
from core.store.db.pagination import cursor_of
from core.store.registry import models
from core.store.registry.references import clean_name
from core.store.storage import deletions

router = APIRouter(prefix="/models", tags=["models"])


@router.get("", responses=responses(401, 422, 503))
def list_models(
    database: DatabaseDep, owner: CurrentOwner, query: Annotated[ModelQuery, Query()]
) -> ModelPage:
    """Newest first; those that fit all of the filters."""
    with database.read() as session:
        page, more = models.list_page(
            session, owner=owner, limit=query.limit, after=query.after, filters=query.filters()
        )
        aliases = models.aliases_of(session, page)
    data = [ModelOut.of(model, aliases.get(model.id, ())) for model in page]
    return ModelPage(data=data, has_more=more, next_cursor=cursor_of(page[-1]) if more else None)


@router.get("/{model_id}", responses=responses(401, 404, 422, 503))
def get_model(database: DatabaseDep, owner: CurrentOwner, model_id: ModelRef) -> ModelOut:
    with database.read() as session:
        model = models.resolve(session, model_id, owner=owner)
        return ModelOut.of(model, models.pointing(session, model))


@router.patch("/{model_id}", responses=responses(400, 401, 404, 408, 409, 413, 422, 503, 507))
def rename_model(
    database: DatabaseDep, owner: CurrentOwner, model_id: ModelRef, patch: ModelPatch
) -> ModelOut:
    """Give the model a name, or another one. What it was called before is free; its number there is not
    used again. An alias must not point to it."""
    name = clean_name(patch.name)
    with database.write() as session:
        model = models.rename(session, model_id, name, owner=owner)
        return ModelOut.of(model, models.pointing(session, model))


@router.delete("/{model_id}", status_code=204, responses=responses(401, 404, 409, 422, 503, 507))
def delete_model(
    database: DatabaseDep,
    blobs: BlobsDep,
    serving: ServingDep,
    owner: CurrentOwner,
    model_id: ModelRef,
    force: Annotated[bool, Query(description="Also when aliases point to it; they are removed too.")] = False,
) -> Response:
    """Remove the model and its weights. Requests that are using it still finish."""
    with database.write() as session:
        model = models.delete(session, model_id, owner=owner, force=force)
    try:
        deletions.finish(database, blobs, models.blobs_of(model.id))
    finally:
        serving.forget(model.id)  # last, so that nobody loads it afterwards
    return Response(status_code=204)
