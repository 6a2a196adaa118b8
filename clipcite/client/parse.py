"""Conversion of JSON to dataclasses.

null gives the default of the field. Unknown fields are ignored, since the service may be newer.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from clipcite.client.errors import ClipCiteError

T = TypeVar("T")


class APIResponseValidationError(ClipCiteError):
    """A response that violates the API contract: another version of the service, or another server."""


def parse(kind: type[T], value: Any) -> T:
    """Convert parsed JSON to the dataclass `kind`.

    Raises:
        APIResponseValidationError: the JSON does not fit.
    """
    try:
        parsed: T = _dataclass(kind, value)
    except (TypeError, ValueError, AttributeError) as error:
        raise APIResponseValidationError(
            f"The response is not a valid {kind.__name__.removesuffix('Data')} ({error}). Install the same "
            "version of the client and the service."
        ) from error
    return parsed


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _dataclass(kind: Any, value: Any) -> Any:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, not {type(value).__name__}")
    hints = _hints(kind)
    present = {name: value[name] for name in hints if value.get(name) is not None and name != "raw"}
    known = {name: _value(hints[name], item) for name, item in present.items()}
    if any(field.name == "raw" for field in fields(kind)):
        known["raw"] = value
    return kind(**known)


def _value(hint: Any, value: Any) -> Any:
    origin = get_origin(hint)
    if origin in {Union, UnionType}:
        return _value(next(each for each in get_args(hint) if each is not type(None)), value)
    if is_dataclass(hint):
        return _dataclass(hint, value)
    if hint is datetime:
        return datetime.fromisoformat(value)
    if origin is list:
        return [_value(get_args(hint)[0], item) for item in value]
    if origin is Mapping and not isinstance(value, dict):
        raise TypeError(f"expected an object, not {type(value).__name__}")
    return value
