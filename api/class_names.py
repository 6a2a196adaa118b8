"""The class names of a request, cleaned. The same long list comes again and again: it is remembered."""

from collections.abc import Sequence
from functools import lru_cache

from pydantic import BaseModel, ConfigDict, Field

from api.errors import InvalidRequest
from core.clip.errors import InvalidClassNames, InvalidConfig
from core.clip.prompts import check_texts, clean_class_name, same_class
from core.serving.answer import ClassName

LISTS = 32
"""That are remembered, the last ones: at most a few MB."""
Given = tuple[str, tuple[str, ...] | None]


class ClassIn(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    texts: list[str] | None = Field(None, description="Sentences to read for this name, not the templates.")


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
    names, warnings = _cleaned(
        tuple(
            (item, None) if isinstance(item, str) else (item.name, item.texts and tuple(item.texts))
            for item in given
        )
    )
    return names, [{"code": code, "detail": detail} for code, detail in warnings]


@lru_cache(LISTS)
def _cleaned(given: tuple[Given, ...]) -> tuple[tuple[ClassName, ...], tuple[tuple[str, str], ...]]:
    names: dict[str, ClassName] = {}
    errors, repeated = [], []
    for index, (spelled, sentences) in enumerate(given):
        try:
            name = clean_class_name(spelled)
            texts = check_texts({name: sentences})[name] if sentences is not None else None
        except (InvalidClassNames, InvalidConfig) as error:
            errors.append({"pointer": f"/class_names/{index}", "code": error.code, "detail": error.detail})
            continue
        if same_class(name) in names:
            repeated.append(name)
        else:
            names[same_class(name)] = ClassName(name, texts)
    if errors:
        raise InvalidRequest(errors[0]["detail"], errors[:100], code="invalid_class_names")
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
