"""Cleaning of the class names in a request, with a cache for long lists that clients send repeatedly."""

from collections.abc import Sequence
from functools import lru_cache

from api.http.problems import InvalidRequest
from clipcite.wire.base import MAX_CLASS_NAMES
from clipcite.wire.classify import ClassIn
from core.clip.errors import InvalidClassNames, InvalidConfig
from core.clip.prompts import check_prompts, clean_class_name, same_class
from core.serving.types import ClassName

CACHED_LISTS = 8
Given = tuple[str, tuple[str, ...] | None]
Cleaned = tuple[tuple[ClassName, ...], tuple[tuple[str, str], ...]]
"""Names and warnings."""


def class_names(given: Sequence[str | ClassIn]) -> tuple[tuple[ClassName, ...], list[dict[str, str]]]:
    """Clean the class names and remove duplicates. Equal plain lists give the identical tuple.

    Returns:
        The names, and warnings about what was changed.

    Raises:
        InvalidRequest: there are no names or invalid ones; every invalid name is listed.
    """
    if not given:
        detail = f"0 class names were sent. Send 1 to {MAX_CLASS_NAMES}."
        raise InvalidRequest(detail, code="invalid_class_names", at="/class_names")
    plain = tuple(name for name, prompts in map(_parts, given) if prompts is None)
    if len(plain) == len(given):
        names, warnings = _cleaned_plain(plain)
    else:
        names, warnings = _cleaned([_parts(item) for item in given])
    return names, [{"code": code, "detail": detail} for code, detail in warnings]


@lru_cache(CACHED_LISTS)
def _cleaned_plain(given: tuple[str, ...]) -> Cleaned:
    return _cleaned([(name, None) for name in given])


def _parts(item: str | ClassIn) -> Given:
    if isinstance(item, str):
        return item, None
    return item.name, None if item.prompts is None else tuple(item.prompts)


def _cleaned(given: Sequence[Given]) -> Cleaned:
    names: dict[str, ClassName] = {}
    errors, repeated = [], []
    for index, (spelled, sentences) in enumerate(given):
        try:
            name = clean_class_name(spelled)
            prompts = check_prompts({name: sentences})[name] if sentences is not None else None
        except (InvalidClassNames, InvalidConfig) as error:
            errors.append({"pointer": f"/class_names/{index}", "code": error.code, "detail": error.detail})
            continue
        if same_class(name) in names:
            repeated.append(name)
        else:
            names[same_class(name)] = ClassName(name, prompts)
    if errors:
        raise InvalidRequest(errors[0]["detail"], errors, code="invalid_class_names")
    warnings = []
    if repeated:
        detail = f"Duplicate class names were merged: {', '.join(repeated[:5])}."
        warnings.append(("repeated_class_names", detail))
    if len(names) == 1:
        warnings.append(
            (
                "one_class_name",
                "With a single class name the probability is always 1. Add the classes it could be confused "
                "with, or use `similarity`.",
            )
        )
    return tuple(names.values()), tuple(warnings)
