"""JSON to dataclasses. What is null has the field's default, and fields that we don't know are left alone:
the service may be newer than we are."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from clipcite.client.errors import ClipCiteError

T = TypeVar("T")


class UnexpectedAnswer(ClipCiteError):
    """The answer is not what the contract says: another version of the service, or none of ours."""


def parse(kind: type[T], value: Any) -> T:
    """`value`, parsed JSON, as the dataclass `kind`. Raises UnexpectedAnswer."""
    try:
        made: T = _dataclass(kind, value)
    except (TypeError, ValueError, AttributeError) as error:
        raise UnexpectedAnswer(
            f"The answer is no {kind.__name__} as this version of clipcite knows it ({error}). Bring client "
            "and service to the same version."
        ) from error
    return made


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _dataclass(kind: Any, value: Any) -> Any:
    if not isinstance(value, dict):
        raise TypeError(f"{kind.__name__} is {type(value).__name__}")
    hints = _hints(kind)
    given = {name: value[name] for name in hints if value.get(name) is not None and name != "raw"}
    known = {name: _value(hints[name], one) for name, one in given.items()}
    if any(field.name == "raw" for field in fields(kind)):
        known["raw"] = value
    return kind(**known)


def _value(hint: Any, value: Any) -> Any:
    origin = get_origin(hint)
    if origin in {Union, UnionType}:
        return _value(next(one for one in get_args(hint) if one is not type(None)), value)
    if is_dataclass(hint):
        return _dataclass(hint, value)
    if hint is datetime:
        return datetime.fromisoformat(value)
    if origin is list:
        return [_value(get_args(hint)[0], one) for one in value]
    if origin is Mapping and not isinstance(value, dict):
        raise TypeError(f"an object was expected, not {type(value).__name__}")
    return value
