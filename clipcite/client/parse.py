"""Conversion of JSON to the types of `clipcite.wire`."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from clipcite.client.errors import ClipCiteError

M = TypeVar("M", bound=BaseModel)


class APIResponseValidationError(ClipCiteError):
    """A response that violates the API contract: another version of the service, or another server."""


def parse(kind: type[M], value: Any) -> M:
    """Convert parsed JSON to `kind`.

    Raises:
        APIResponseValidationError: the JSON does not fit.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise APIResponseValidationError(
            f"The response is not a valid {kind.__name__} ({place}{': ' if place else ''}{first['msg']}). "
            "Install the same version of the client and the service."
        ) from error
