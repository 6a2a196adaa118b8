"""Generation of the OpenAPI document."""

from collections.abc import Mapping
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from api.http.forms import FORMS, JSON_BODIES
from clipcite.types.classify import Classification, ClassifyForm, ClassifyJson
from clipcite.types.jobs import Job
from clipcite.types.models import Model
from clipcite.types.problems import Problem

LICENSE = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
SERVERS = [{"url": "/", "description": "The service that serves this document."}]
FIRST_TAGS = ("adapt", "jobs", "models", "classify")
"""Groups of routes that come first in /docs."""
NAMED: Mapping[type[BaseModel], Literal["serialization", "validation"]] = {
    Problem: "serialization",
    ClassifyForm: "validation",
    ClassifyJson: "validation",
}
"""Schemas that routes reference only by name."""
WITH_EXAMPLES: tuple[type[BaseModel], ...] = (Job, Model, Classification)
"""Schemas whose examples have nulls, which FastAPI leaves out."""


def build_openapi(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document: FastAPI's, with what linters and client generators need."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            license_info=LICENSE,
            servers=SERVERS,
            tags=[{"name": name} for name in FIRST_TAGS],
        )
        for methods in document["paths"].values():
            for operation in methods.values():
                operation.setdefault("security", [])  # explicitly without authentication
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for model, mode in [
            *NAMED.items(),
            *((body, "validation") for body in (FORMS | JSON_BODIES).values()),
        ]:
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}", mode=mode)
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
        for model in WITH_EXAMPLES:
            schemas[model.__name__]["examples"] = model.model_json_schema()["examples"]
        for name in FORMS:
            _describe_form(schemas[name])
        app.openapi_schema = document
    return app.openapi_schema


def _describe_form(schema: dict[str, Any]) -> None:
    """Mark files with `format: binary` and remove null from the types of form fields.

    Client generators recognise files by that format, but FastAPI writes only `contentMediaType`. A form can't
    contain null.
    """
    for name, field in schema["properties"].items():
        types = [option for option in field.pop("anyOf", []) if option != {"type": "null"}]
        schema["properties"][name] = field = {**field, **(types[0] if types else {})}
        for file in (field, field.get("items", {})):
            if "contentMediaType" in file:
                file["format"] = "binary"
