"""Cleaning of the class names in a request, with a cache for long lists that clients send repeatedly."""

import sys
from collections.abc import Sequence

from api.http.problems import InvalidRequest
from clipcite.wire.classify import ClassIn
from core.clip.errors import InvalidClassNames, InvalidConfig
from core.clip.prompts import (
    check_prompts,
    clean_class_name,
    same_class,
)
from core.serving.text_cache import LruCache
from core.serving.types import ClassName

CACHE_BYTES = 8_000_000
NAME_BYTES = 250
"""Memory per cached name, rounded up, without its original and its cleaned text."""
Given = tuple[str, tuple[str, ...] | None]
Cleaned = tuple[tuple[ClassName, ...], tuple[tuple[str, str], ...]]
"""Names and warnings."""

_cache: LruCache[tuple[str, ...], Cleaned] = LruCache(CACHE_BYTES)
"""Cleaned lists of class names, only for lists without prompts."""


def class_names(
    given: Sequence[str | ClassIn], max_names: int
) -> tuple[tuple[ClassName, ...], list[dict[str, str]]]:
    """Clean the class names and remove duplicates. Equal plain lists give the identical tuple.

    Returns:
        The names, and warnings about what was changed.

    Raises:
        InvalidRequest: there are too few, too many or invalid names; every invalid name is listed.
    """
    if not 1 <= len(given) <= max_names:
        detail = f"{len(given)} class names were sent. Send 1 to {max_names}."
        raise InvalidRequest(
            detail, [{"pointer": "/class_names", "detail": detail}], code="invalid_class_names"
        )
    plain = tuple(name for name, prompts in map(_parts, given) if prompts is None)
    if len(plain) == len(given):
        names, warnings = _cache.get(plain) or _remember(plain)
    else:
        names, warnings = _cleaned([_parts(item) for item in given])
    return names, [{"code": code, "detail": detail} for code, detail in warnings]


def _remember(given: tuple[str, ...]) -> Cleaned:
    cleaned = _cleaned([(name, None) for name in given])
    texts = {id(text): text for text in (*given, *(class_name.name for class_name in cleaned[0]))}
    size = NAME_BYTES * len(given) + sum(map(sys.getsizeof, texts.values()))
    return _cache.put(given, cleaned, size)


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
