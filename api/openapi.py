"""The OpenAPI document."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api import problems
from api.classify.schemas import ClassifyForm, ClassifyJson


def build_openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with the schemas that routes refer to by name only."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for model in (problems.Problem, ClassifyForm, ClassifyJson):
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
        for name, schema in schemas.items():
            if name.startswith("Body_"):
                _describe_form(schema)
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
