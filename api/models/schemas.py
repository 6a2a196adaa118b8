"""Models as the API shows them."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict

from api.request_model import RequestModel
from core.store.db import tables
from core.store.registry.models import Filters

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
    "metrics": {
        "measured_on": {"source": "none", "images": 0, "trained_images": 16},
        "trained_classes": None,
        "new_classes": None,
        "all_classes": None,
        "verdict": "not_measured",
    },
}


class Model(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [MODEL_EXAMPLE]})

    id: str
    object: Literal["model"] = "model"
    name: str | None
    version: int | None = Field(description="Of the models with this name; null without a name.")
    aliases: list[str] = Field(description="`name@alias` is this model for each of them.")
    job_id: str | None
    """None: it came in by POST /models."""
    backbone: str
    trained_classes: list[str]
    alpha: float
    templates: list[str]
    prompts: dict[str, list[str]]
    bytes: int
    delta_format: Literal["full", "4bit", "1bit"]
    created_at: datetime
    metrics: dict[str, Any] | None

    @classmethod
    def of(cls, model: tables.Model, aliases: Sequence[str] = ()) -> "Model":
        columns = {name: getattr(model, name) for name in cls.model_fields if hasattr(model, name)}
        return cls.model_validate({**columns, "aliases": aliases, "trained_classes": model.classes})


class ModelPage(BaseModel):
    data: list[Model]
    has_more: bool
    next_cursor: str | None


def _time(value: Any) -> datetime:
    """RFC 3339 only: pydantic would also take seconds since 1970."""
    if not isinstance(value, str) or not re.match(r"\d{4}-\d\d-\d\d[Tt]", value, re.ASCII):
        raise ValueError("Not a time as RFC 3339 writes it, such as 2026-11-25T02:06:03Z")
    try:
        time = datetime.fromisoformat(value.upper())
        return time.astimezone(UTC) if time.tzinfo is not None else time
    except OverflowError as error:  # within a day of the years 1 and 9999
        raise ValueError("Out of range") from error


Time = Annotated[AwareDatetime, BeforeValidator(_time)]


class ModelQuery(BaseModel):
    """The parameters of the list. One that is misspelt must not show everything instead."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(20, ge=1, le=100, description="At most so many, newest first.")
    after: str | None = Field(None, description="`next_cursor` of the page before.")
    name: str | None = Field(None, description="All versions of this name.")
    backbone: str | None = None
    job_id: str | None = Field(None, description="The one that this job made.")
    class_name: str | None = Field(None, description="A class that it was trained with, as spelt there.")
    created_after: Time | None = Field(None, description="At this time or later.")
    created_before: Time | None = None

    def filters(self) -> Filters:
        return Filters(**self.model_dump(exclude={"limit", "after"}))


class ModelPatch(RequestModel):
    name: Annotated[str, Field(json_schema_extra={"maxLength": 200})] | None = Field(
        description="It becomes the next version of this name; null: it has none then."
    )
