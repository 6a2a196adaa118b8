"""/models: adapted models."""

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict
from pydantic.config import JsonDict

from api.deps import After, Limit, TheBlobs, TheDatabase, TheOwner, TheServing
from api.errors import responses
from core.store import deletions, models
from core.store.tables import Model

router = APIRouter(prefix="/models", tags=["models"])


EXAMPLE: JsonDict = {
    "id": "mdl_01m883zfhkxd2329sa0r05wkw7",
    "object": "model",
    "name": "animals",
    "job_id": "job_01m8879efspbrp0fvcbr51d4g1",
    "backbone": "starter",
    "trained_classes": ["red fox", "badger"],
    "alpha": 0.5,
    "templates": ["a photo of a {}."],
    "texts": {},
    "bytes": 105725000,
    "weights": "full",
    "created_at": "2026-11-25T02:06:03.690667Z",
    "metrics": {
        "measured_on": {"source": "none", "images": 0, "trained_images": 16},
        "trained_names": None,
        "new_names": None,
        "all_names": None,
        "verdict": "not_measured",
    },
}


class ModelOut(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str
    object: Literal["model"] = "model"
    name: str | None
    job_id: str | None
    """None: it came in by POST /models."""
    backbone: str
    trained_classes: list[str]
    alpha: float
    templates: list[str]
    texts: dict[str, list[str]]
    bytes: int
    weights: Literal["full", "4bit", "1bit"]
    created_at: datetime
    metrics: dict[str, Any] | None

    @classmethod
    def of(cls, model: Model) -> "ModelOut":
        columns = {name: getattr(model, name) for name in cls.model_fields if hasattr(model, name)}
        return cls.model_validate({**columns, "trained_classes": model.classes})


class ModelPage(BaseModel):
    data: list[ModelOut]
    has_more: bool
    next_cursor: str | None


@router.get("", responses=responses(401, 422, 503))
def list_models(database: TheDatabase, owner: TheOwner, limit: Limit = 20, after: After = None) -> ModelPage:
    """Newest first."""
    with database.read() as session:
        page, more = models.list_page(session, owner=owner, limit=limit, after=after)
    data = [ModelOut.of(model) for model in page]
    return ModelPage(data=data, has_more=more, next_cursor=page[-1].id if more else None)


@router.get("/{model_id}", responses=responses(401, 404, 422, 503))
def get_model(database: TheDatabase, owner: TheOwner, model_id: str) -> ModelOut:
    with database.read() as session:
        return ModelOut.of(models.get(session, model_id, owner=owner))


@router.delete("/{model_id}", status_code=204, responses=responses(401, 404, 422, 503, 507))
def delete_model(
    database: TheDatabase, blobs: TheBlobs, serving: TheServing, owner: TheOwner, model_id: str
) -> Response:
    """Remove the model and its weights. Requests that are using it still finish."""
    with database.write() as session:
        models.delete(session, model_id, owner=owner)
    serving.forget(model_id)
    deletions.finish(database, blobs, models.blobs_of(model_id))
    return Response(status_code=204)
