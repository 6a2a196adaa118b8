"""Adapted models, and aliases: references such as `shoes@prod`."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from clipcite.types.base import Open, RequestModel, Resource, ResponseModel
from clipcite.types.problems import Notice
from clipcite.types.report import NOT_PROMOTED, PROMOTED, Metrics

ExportFormat = Literal["open_clip", "onnx", "delta", "classifier", "transformers", "immich"]

MODEL_EXAMPLE: JsonDict = {
    "id": "mdl_01m883zfhkxd2329sa0r05wkw7",
    "object": "model",
    "name": "animals",
    "version": 3,
    "aliases": ["prod"],
    "job_id": "job_01m8879efspbrp0fvcbr51d4g1",
    "backbone": "starter",
    "trained_classes": ["red fox", "badger"],
    "alpha": 0.5,
    "templates": ["a photo of a {}."],
    "prompts": {},
    "bytes": 105725000,
    "delta_format": "full",
    "created_at": "2026-11-25T02:06:03.690667Z",
    "created_by": "key_01m880r1e3wjq5m2yd9hn7z4tb",
    "metrics": None,
    "evaluated": False,
    "promoted": True,
    "not_promoted": None,
}


class Model(Resource):
    """Adapted model."""

    model_config = ConfigDict(json_schema_extra={"examples": [MODEL_EXAMPLE]})

    id: str
    object: Literal["model"] = "model"
    name: str | None = None
    version: int | None = Field(None, description="Version within the name; null without a name.")
    aliases: list[str] = Field(description="Aliases that point to this model, for use as `name@alias`.")
    job_id: str | None = Field(None, description="Job that created the model; null if it was imported.")
    backbone: str = Field(description="Pre-trained model that was adapted.")
    trained_classes: list[str]
    alpha: float = Field(description="Default mixing weight, from 0 (stock) to 1 (fine-tuned).")
    templates: list[str] = Field(description="Prompt templates, each with `{}` for the class name.")
    prompts: dict[str, list[str]] = Field(description="Prompts by class name, instead of the templates.")
    bytes: int = Field(description="Size of the stored weights.")
    delta_format: Open[Literal["full", "4bit"]] = Field(description="Storage format of the weights.")
    created_at: datetime
    created_by: str | None = Field(None, description="Id of the key that made it; `token` without keys.")
    metrics: Metrics | None = Field(
        None,
        description="Summary of the job's evaluation, or of a later one with at least 30 images, or as many "
        "as the job's. The report, or `GET /models/{id}/evaluation`, has more.",
    )
    evaluated: bool = Field(False, description="Whether `GET /models/{id}/evaluation` has an evaluation.")
    promoted: bool | None = Field(None, description=PROMOTED)
    not_promoted: Notice | None = Field(None, description=NOT_PROMOTED)


class ModelPage(ResponseModel):
    data: list[Model]
    has_more: bool
    next_cursor: str | None


class ModelQuery(BaseModel):
    """Query parameters of the list. Unknown parameters are errors, so that a misspelt filter is noticed."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(20, ge=1, le=100, description="Maximum number of items per page.")
    after: str | None = Field(None, description="`next_cursor` of the previous page.")
    name: str | None = Field(None, description="Only versions of this name.")
    backbone: str | None = Field(None, description="Only models of this backbone.")
    job_id: str | None = Field(None, description="Only the model of this job.")
    class_name: str | None = Field(None, description="Only models trained on this class, in exact spelling.")


class ModelPatch(RequestModel):
    name: Annotated[str, Field(json_schema_extra={"maxLength": 200})] | None = Field(
        None, description="Model name. The model becomes its newest version; null removes the name."
    )
    promoted: Literal[True] | None = Field(
        None, description="`true`: the name refers to this version, until a newer one is promoted."
    )


class AliasMove(ResponseModel):
    """Promotion or rollback of an alias."""

    revision: int
    action: Open[Literal["promoted", "rolled_back"]]
    model: str = Field(description="Id of the model that the alias pointed to afterwards.")
    version: int
    at: datetime


class Alias(Resource):
    """Pointer to a version of a model."""

    reference: str = Field(description="`name@alias`.")
    object: Literal["alias"] = "alias"
    name: str
    alias: str
    model: str = Field(description="Id of the model that the alias points to.")
    version: int = Field(description="Version of that model.")
    revision: int = Field(description="Number of the last move. It grows by 1 per move.")
    history: list[AliasMove] = Field(description="The last 100 moves, newest first.")


class AliasList(ResponseModel):
    data: list[Alias]


class Promotion(RequestModel):
    model: str = Field(
        max_length=600,
        description="Model to promote: id, `name` (the version in use), `name@version` or `name@alias`.",
    )
