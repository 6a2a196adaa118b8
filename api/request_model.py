"""Base class of all JSON objects in requests."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

MAX_UNKNOWN_FIELDS = 100


class RequestModel(BaseModel):
    """Base model that rejects unknown fields, one error per field, or a single error for very many."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _count_fields(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > len(cls.model_fields) + MAX_UNKNOWN_FIELDS:
            raise PydanticCustomError(
                "too_many_fields",
                "The object has {count} fields, of which {known} are known. Remove the others",
                {"count": len(value), "known": len(cls.model_fields)},
            )
        return value
