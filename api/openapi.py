"""The OpenAPI document."""

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from api.classify.schemas import Classification, ClassifyForm, ClassifyJson
from api.jobs.schemas import Job, Preflight
from api.models.aliases.schemas import Alias
from api.models.schemas import Model
from api.problems import Problem

LICENSE = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
SERVERS = [{"url": "/", "description": "The service that serves this document."}]
NAMED: tuple[type[BaseModel], ...] = (Problem, ClassifyForm, ClassifyJson)
"""Schemas that routes refer to by name only."""
WITH_EXAMPLES: tuple[type[BaseModel], ...] = (Job, Preflight, Model, Alias, Classification)


def build_openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, completed for linters and for generators of clients."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            license_info=LICENSE,
            servers=SERVERS,
        )
        for methods in document["paths"].values():
            for operation in methods.values():
                operation.setdefault("security", [])  # open, and said so
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for model in NAMED:
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
        for model in WITH_EXAMPLES:  # FastAPI leaves out every null of an example
            schemas[model.__name__]["examples"] = model.model_json_schema()["examples"]
        for name, schema in schemas.items():
            if name.startswith("Body_"):
                _describe_form(schema)
        for name in _requested(document):
            _describe_defaults(schemas[name])
        app.openapi_schema = document
    return app.openapi_schema


def _describe_form(schema: dict[str, Any]) -> None:
    """Generators of clients know a file by `format: binary`, of which FastAPI writes the newer form only;
    and a form has no null: what is not given is left out."""
    for name, field in schema["properties"].items():
        kinds = [kind for kind in field.pop("anyOf", []) if kind != {"type": "null"}]
        schema["properties"][name] = field = {**field, **(kinds[0] if kinds else {})}
        for file in (field, field.get("items", {})):
            if "contentMediaType" in file:
                file["format"] = "binary"


def _requested(document: dict[str, Any]) -> set[str]:
    """Names of the schemas that bodies of requests are made of."""
    schemas = document["components"]["schemas"]
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    waiting = _references([operation.get("requestBody") for operation in operations])
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting |= _references(schemas[name])
    return found


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        here = {value["$ref"].rpartition("/")[2]} if isinstance(value.get("$ref"), str) else set()
        return here.union(*map(_references, value.values()))
    return set().union(*map(_references, value)) if isinstance(value, list) else set()


def _describe_defaults(schema: dict[str, Any]) -> None:
    """Move defaults of a request's fields into their descriptions, since generators of TypeScript make a
    field with a default required. `null` says no more than that the field is optional."""
    for field in schema.get("properties", {}).values():
        default = field.pop("default", None)
        if default is not None:
            said = f"Default {json.dumps(default)}."
            field["description"] = f"{field['description']} {said}" if "description" in field else said
