"""The class names of a request, cleaned. The same long list comes again and again: it is remembered."""

import sys
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from api.problems import InvalidRequest
from api.request_model import RequestModel
from core.clip.errors import InvalidClassNames, InvalidConfig
from core.clip.prompts import (
    MAX_NAME_LENGTH,
    MAX_TEMPLATES,
    MAX_TEXT_LENGTH,
    check_prompts,
    clean_class_name,
    same_class,
)
from core.serving.text_cache import LruCache
from core.serving.types import ClassName

REMEMBERED_BYTES = 8_000_000
NAME_BYTES = 250
"""Of a remembered name in memory, beside its prompts as given and as cleaned, rounded up."""
Given = tuple[str, tuple[str, ...] | None]
Cleaned = tuple[tuple[ClassName, ...], tuple[tuple[str, str], ...]]
"""The names, and the warnings."""

# Only described: core.clip.prompts checks both, and names each bad one.
RawName = Annotated[str, Field(json_schema_extra={"maxLength": 10 * MAX_NAME_LENGTH})]
Sentence = Annotated[str, Field(json_schema_extra={"maxLength": MAX_TEXT_LENGTH})]


class ClassIn(RequestModel):
    name: RawName
    prompts: list[Sentence] | None = Field(
        None,
        fail_fast=True,
        max_length=MAX_TEMPLATES,
        description="Sentences to read for this name, not the templates.",
    )


_remembered: LruCache[tuple[str, ...], Cleaned] = LruCache(REMEMBERED_BYTES)
"""Lists of names without sentences of their own."""


def class_names(
    given: Sequence[str | ClassIn], most: int
) -> tuple[tuple[ClassName, ...], list[dict[str, str]]]:
    """Cleaned and without repetitions; warnings tell what was changed. For the same list it is the same
    tuple. Raises InvalidRequest that names every bad one."""
    if not 1 <= len(given) <= most:
        detail = f"Give 1 to {most} class names, not {len(given)}."
        raise InvalidRequest(
            detail, [{"pointer": "/class_names", "detail": detail}], code="invalid_class_names"
        )
    plain = tuple(name for name, prompts in map(_parts, given) if prompts is None)
    if len(plain) == len(given):
        names, warnings = _remembered.get(plain) or _remember(plain)
    else:
        names, warnings = _cleaned([_parts(item) for item in given])
    return names, [{"code": code, "detail": detail} for code, detail in warnings]


def _remember(given: tuple[str, ...]) -> Cleaned:
    cleaned = _cleaned([(name, None) for name in given])
    prompts = {id(text): text for text in (*given, *(one.name for one in cleaned[0]))}
    size = NAME_BYTES * len(given) + sum(map(sys.getsizeof, prompts.values()))
    return _remembered.put(given, cleaned, size)


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
        detail = f"Given more than once, and counted once: {', '.join(repeated[:5])}."
        warnings.append(("repeated_class_names", detail))
    if len(names) == 1:
        warnings.append(
            (
                "one_class_name",
                "With one name its probability is always 1. Give the names it could be confused with, or "
                "look at the similarity.",
            )
        )
    return tuple(names.values()), tuple(warnings)
