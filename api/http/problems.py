"""All error responses: `application/problem+json` (RFC 9457), or the dialect of a path."""

import errno
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Scope

from clipcite.types.problems import Problem, ProblemAction, ProblemItem
from core.clip.errors import InvalidConfig
from core.errors import ExpectedError
from core.scratch import DISK_FULL

logger = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = 5
CLIENT_GONE = 499
"""Status, in the metrics, of a request whose client disconnected before the body had arrived."""
DIALECTS: dict[str, Callable[[Problem], Mapping[str, Any]]] = {}
"""Renderers of errors in the formats of other services, by the first part of the path (`api.compat`)."""
UNION_KINDS = {"str", "ClassIn"}
MAX_JSON_VALUES = 200_000
MAX_ERRORS = 100
MAX_ERRORS_BYTES = 48_000
MAX_DETAIL = 1_000
"""Maximum characters of a detail. Together with MAX_ERRORS_BYTES it keeps a response below 64 kB."""


Body = TypeVar("Body", bound=BaseModel)


class InvalidRequest(ExpectedError):
    """The request is valid HTTP but breaks the API's contract."""

    code = "invalid_request"
    status = 422

    def __init__(
        self,
        detail: str,
        errors: Sequence[Mapping[str, str]] = (),
        code: str | None = None,
        *,
        at: str | None = None,
    ) -> None:
        """Create an error. `at` is the pointer to the field, if a single field is wrong."""
        super().__init__(detail)
        self.errors = list(errors) if at is None else [{"pointer": at, "detail": detail}]
        self.code = code or self.code


class BodyRefused(HTTPException):
    """The body breaks a limit.

    It is an HTTPException, because FastAPI turns any other exception while reading the body into its own 400.
    """

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, headers)
        self.code = code


def dialect_of(path: str) -> Callable[[Problem], Mapping[str, Any]] | None:
    """Return the renderer of errors for a path below a prefix of `DIALECTS`, else None."""
    return DIALECTS.get(f"/{path[1:].partition('/')[0]}")


def _first(errors: Sequence[Mapping[str, str | None]]) -> list[ProblemItem]:
    """Return as many items as fit into a response, then one that counts the rest."""
    items: list[ProblemItem] = []
    room = MAX_ERRORS_BYTES
    for error in errors[:MAX_ERRORS]:
        item = ProblemItem(**{key: value and _shortened(value) for key, value in error.items()})
        room -= len(item.model_dump_json().encode())
        if room < 0:
            break
        items.append(item)
    if len(items) < len(errors):
        items.append(ProblemItem(detail=f"and {len(errors) - len(items):,} more"))
    return items


def _shortened(text: str) -> str:
    """Cut out the middle of a long text. The middle quotes the caller's input, and the end has the remedy."""
    if len(text) <= MAX_DETAIL:
        return text
    return f"{text[: MAX_DETAIL // 2]}…{text[-MAX_DETAIL // 2 :]}"


def problem_response(
    scope: Scope,
    status: int,
    code: str,
    detail: str,
    errors: Sequence[Any] = (),
    headers: Mapping[str, str] | None = None,
    actions: Sequence[ProblemAction] = (),
) -> Response:
    """Return an error in the dialect of its path, shortened to its limits."""
    problem = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=_shortened(detail),
        code=code,
        errors=_first(errors),
        actions=list(actions),
        request_id=scope.get("state", {}).get("request_id"),
    )
    dialect = dialect_of(scope.get("path", ""))
    if dialect is not None:
        return JSONResponse(dialect(problem), status, headers)
    return Response(problem.model_dump_json(), status, headers, MEDIA_TYPE)


def error_response(scope: Scope, error: ExpectedError, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response for an error, with the headers that HTTP clients expect.

    A detail that only the operator may see is logged.
    """
    errors = list(getattr(error, "errors", ()))
    if isinstance(error, InvalidConfig):
        errors.append({"pointer": f"/config/{error.field}", "detail": error.detail})
    headers = {**(headers or {}), **getattr(error, "headers", {})}
    if error.status in {429, 503} or hasattr(error, "retry_after"):
        headers["Retry-After"] = str(getattr(error, "retry_after", RETRY_AFTER))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    public: str | None = getattr(error, "public_detail", None)
    if public is not None:
        logger.warning("%s: %s", error.code, error.detail)
    detail, actions = (error.detail, error.actions) if public is None else (public, [])
    return problem_response(scope, error.status, error.code, detail, errors, headers, actions)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI descriptions of the problems that a route may respond with."""
    if 401 in statuses:
        statuses = (*statuses, 403)  # api.middleware.auth responds with either
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {s: {"description": HTTPStatus(s).phrase, "content": content} for s in statuses}


def validation_items(errors: Sequence[Any], prefix: str = "") -> list[dict[str, str]]:
    """Convert pydantic's errors to items of a problem, without the input."""
    items: dict[str, dict[str, str]] = {}
    for error in errors:
        # For a union, pydantic reports an error per member, with the member's name as the last part.
        parts = [part for part in error["loc"] if part not in UNION_KINDS]
        escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in parts)  # RFC 6901
        pointer = prefix + "".join(f"/{part}" for part in escaped) or "/"
        items.setdefault(pointer, {"pointer": pointer, "code": error["type"], "detail": error["msg"]})
    return list(items.values())


def parsed_json(kind: type[Body], body: bytes) -> Body:
    """Parse the body of a request.

    Raises:
        InvalidRequest: the body does not match its schema.
        BodyRefused: the body has too many values. Each takes up to 450 bytes while pydantic parses: 7 million
            empty images, in 98 MB, took gigabytes (tests/api/limits/test_limits.py).
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_JSON_VALUES:
        raise BodyRefused(
            413,
            "too_many_values",
            f"The JSON has more than {MAX_JSON_VALUES:,} objects, arrays and commas. Send fewer images, "
            "class names or prompts per request.",
        )
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise invalid_model(error, "") from error


def invalid_model(error: ValidationError, prefix: str) -> InvalidRequest:
    """Return the error for a JSON object that does not match its schema."""
    items = validation_items(error.errors(include_url=False, include_input=False), prefix)
    return InvalidRequest(_sentence(items), items)


def _sentence(items: Sequence[Mapping[str, str]]) -> str:
    detail = items[0]["detail"]
    first = (
        f"{items[0]['pointer'].lstrip('/') or 'body'}: {detail}{'' if detail.endswith(('.', '?')) else '.'}"
    )
    return first if len(items) == 1 else f"{first} There are {len(items)} such errors; see errors."


def install(app: FastAPI) -> None:
    """Install the handlers of all errors. They are coroutines: stalled disks may block all threads."""

    @app.exception_handler(ExpectedError)
    async def expected(request: Request, error: ExpectedError) -> Response:
        return error_response(request.scope, error)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        # The first part of a location is path, query or body.
        items = validation_items([{**e, "loc": e["loc"][1:]} for e in error.errors()])
        return problem_response(request.scope, 422, "invalid_request", _sentence(items), items)

    @app.exception_handler(OSError)
    async def system(request: Request, error: OSError) -> Response:
        known = _system_problem(error)
        return problem_response(request.scope, *known) if known else await unexpected(request, error)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        # FastAPI responds with 400 to any error while it reads a form.
        if isinstance(error.__cause__, ExpectedError):
            return await expected(request, error.__cause__)
        known = _system_problem(error.__cause__)
        if known is not None:
            return problem_response(request.scope, *known)
        if error.status_code == 400 and str(error.detail).startswith("Too many files"):
            limit = request.app.state.settings.max_images
            detail = f"There are too many images. Send at most {limit:,} per request."
            return problem_response(request.scope, 413, "too_many_images", detail)
        codes = {404: "not_found", 405: "method_not_allowed", 400: "bad_request"}
        code = getattr(error, "code", None) or codes.get(error.status_code, "http_error")
        detail = str(error.detail)
        if error.status_code == 400 and code == "bad_request":
            detail = f"{detail.rstrip('.')}. Let your HTTP client encode body and headers, and send it again."
        if error.status_code == 404 and detail == "Not Found":
            detail = f"There is no route {request.url.path}. /docs lists all routes."
        if error.status_code == 405:
            detail = f"{request.url.path} does not support {request.method}. /docs lists all routes."
            error.headers = {"Allow": ", ".join(_methods(request))}
        return problem_response(request.scope, error.status_code, code, detail, (), error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_GONE)  # only for the metrics

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        request_id = getattr(request.state, "request_id", None)
        logger.error("request %s failed", request_id, exc_info=error)
        detail = f"Internal error. The service's log has details under the request id {request_id}."
        # Starlette sends this response outside the middleware that adds the header.
        headers = {"X-Request-ID": request_id} if request_id else None
        return problem_response(request.scope, 500, "internal_error", detail, (), headers)


def _methods(request: Request) -> list[str]:
    """Return all methods of the path. Starlette knows those of one route only, and none of static files."""
    methods = [
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(r.matches({**request.scope, "method": method})[0] is Match.FULL for r in request.app.routes)
    ]
    return ["GET", "HEAD", *methods[1:]] if not methods or methods[0] == "GET" else methods


def _system_problem(error: BaseException | None) -> tuple[int, str, str] | None:
    """Return status, code and detail for a full or read-only disk or too many open files, else None."""
    if not isinstance(error, OSError):
        return None
    if error.errno in DISK_FULL:
        detail = "The server's disk is full or read-only. Nothing was stored. Free some space, and try again."
        return 507, "storage_full", detail
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        detail = "The server has too many open files. Send fewer images, send an archive, or try again later."
        return 503, "too_many_open_files", detail
    return None


def json_or_invalid(text: str, pointer: str) -> Any:
    """Parse JSON from a form field. Raise InvalidRequest with the field's name."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        detail = f"{pointer.lstrip('/')} is not valid JSON. Encode it with a JSON library."
        raise InvalidRequest(detail, at=pointer) from error
