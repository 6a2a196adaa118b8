"""Base classes and common types of requests and responses."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

MAX_UNKNOWN_FIELDS = 100
MAX_IMAGES = 100_000
"""Upper bound of the setting `max_images`, which is usually lower. The OpenAPI document states it."""
MAX_CLASSIFY_IMAGES = 64
MAX_CLASS_NAMES = 1_000
MAX_CLASSES = 10_000
MAX_TEMPLATES = 100

# These limits appear only in the schema. core.clip.prompts checks both, and reports each invalid text.
RawName = Annotated[str, Field(json_schema_extra={"maxLength": 2_000})]
Sentence = Annotated[str, Field(json_schema_extra={"maxLength": 1_000})]


def unknown_field(name: str, known: Iterable[str]) -> str:
    """Return the error for an unknown field. It suggests a known field with a similar name, if any."""
    close = get_close_matches(name[:60], list(known), n=1)
    advice = f"Did you mean `{close[0]}`?" if close else f"The fields are {', '.join(known)}."
    return f"Unknown field `{name[:60]}`. {advice}"


class RequestModel(BaseModel):
    """Base model that rejects unknown fields, with an error per field, or a single error for very many.

    The error of a misspelt field suggests the field that was probably meant.
    """

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _name_unknown_fields(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(value, dict) and len(value) > len(cls.model_fields) + MAX_UNKNOWN_FIELDS:
            raise PydanticCustomError(
                "too_many_fields",
                "The object has {count} fields, but only {known} are known. Remove the others",
                {"count": len(value), "known": len(cls.model_fields)},
            )
        try:
            return handler(value)
        except ValidationError as error:
            lines: list[InitErrorDetails] = []
            for line in error.errors(include_url=False, include_context=False):
                text = line["msg"]
                if line["type"] == "extra_forbidden" and len(line["loc"]) == 1:
                    text = unknown_field(str(line["loc"][0]), cls.model_fields)
                kind = PydanticCustomError(line["type"], text)
                lines.append({"type": kind, "loc": line["loc"], "input": line["input"]})
            raise ValidationError.from_exception_data(cls.__name__, lines) from None


class ResponseModel(BaseModel):
    """Base model of the objects in responses.

    The service sends every field. The client ignores unknown fields, which a newer service may send. Fields
    with a default may be missing, because an older service may not know them. Deferred building keeps the
    import fast.
    """

    model_config = ConfigDict(defer_build=True, json_schema_serialization_defaults_required=True)


class Resource(ResponseModel):
    """Response that keeps its JSON."""

    _raw: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep_json(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        made = handler(value)
        if isinstance(value, dict):
            made._raw = value
        return made

    @property
    def raw(self) -> Mapping[str, Any]:
        """JSON as received, including fields of a newer service."""
        return self._raw


def _known_or_text(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValidationError:
        if isinstance(value, str):
            return value
        raise


T = TypeVar("T")
Open = Annotated[T, WrapValidator(_known_or_text)]
"""A `Literal` of a response to which a newer service may add values."""


class NullAsEmpty:
    """Annotation of a list that is null in JSON and empty in Python."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return core_schema.no_info_before_validator_function(
            lambda value: [] if value is None else value, handler(source)
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [handler(schema), {"type": "null"}]}
