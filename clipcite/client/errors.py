"""What may go wrong, as exceptions with the service's own words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipcite.client.types import Job


class ClipCiteError(Exception):
    """The root of all exceptions of this library."""


class APIConnectionError(ClipCiteError):
    """No answer came: nothing listens there, the connection broke, or it took too long."""


class InvalidImages(ClipCiteError):
    """What was given cannot be uploaded as labelled images; the message says why."""


class WaitTimeout(ClipCiteError):
    """The time given to `wait` is over; the job goes on. `job` is how it was last seen."""

    def __init__(self, job: "Job") -> None:
        super().__init__(f"{job.id} is still {job.status}. It goes on; wait for it again with its id.")
        self.job = job


class JobFailed(ClipCiteError):
    """The job that was waited for has ended without a model. `job` says why."""

    def __init__(self, job: "Job") -> None:
        reason = f": {job.error.detail} ({job.error.code})" if job.error else "."
        super().__init__(f"{job.id} {'was cancelled' if job.status == 'cancelled' else 'failed'}{reason}")
        self.job = job


@dataclass(frozen=True)
class ErrorItem:
    """One bad file or field."""

    detail: str
    code: str | None = None
    file: str | None = None
    pointer: str | None = None
    """JSON pointer, or form field."""


@dataclass(frozen=True)
class Problem:
    """An `application/problem+json` answer (RFC 9457)."""

    status: int
    title: str = ""
    detail: str = ""
    code: str = ""
    errors: list[ErrorItem] = field(default_factory=list)
    request_id: str | None = None


class APIStatusError(ClipCiteError):
    """The service answered with an error. Its parts are in `problem`, and as attributes here."""

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.headers: Mapping[str, str] = headers or {}
        self.status = problem.status
        self.code = problem.code
        self.detail = problem.detail
        self.errors = problem.errors
        self.request_id = problem.request_id

    def __str__(self) -> str:
        """Everything a person needs, the bad files and fields too."""
        items = [f"  {item.file or item.pointer or ''}: {item.detail}" for item in self.errors]
        tail = [f"({self.status} {self.code}, request {self.request_id})"] if self.request_id else []
        return "\n".join([self.detail, *items, *tail])


class AuthenticationError(APIStatusError):
    """401: no key, or a wrong one."""


class PermissionDeniedError(APIStatusError):
    """403: a key without the scope, or a page of another site."""


class NotFoundError(APIStatusError):
    """404: it does not exist, or is another owner's."""


class ConflictError(APIStatusError):
    """409: not possible in the state that it is in."""


class UnprocessableEntityError(APIStatusError):
    """400, 413 and 422: what was sent cannot be used; `errors` names each bad file or field."""


class RateLimitError(APIStatusError):
    """429: a limit of the key or the owner is reached, also after several tries."""


class InternalServerError(APIStatusError):
    """5xx: the service could not do it, also after several tries where that helps."""


_KINDS: Mapping[int, type[APIStatusError]] = {
    400: UnprocessableEntityError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    413: UnprocessableEntityError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}


def error_of(status: int, headers: Mapping[str, str], said: Any) -> APIStatusError:
    """The exception for an answer; `said` is its parsed body, whatever it was."""
    fields = said if isinstance(said, dict) else {}
    items = [
        ErrorItem(str(one.get("detail", "")), one.get("code"), one.get("file"), one.get("pointer"))
        for one in fields.get("errors") or []
        if isinstance(one, dict)
    ]
    problem = Problem(
        status=status,
        title=str(fields.get("title") or ""),
        detail=str(
            fields.get("detail") or f"The answer was {status}, and not one of clipcite's. {_hint(headers)}"
        ),
        code=str(fields.get("code") or "http_error"),
        errors=items,
        request_id=fields.get("request_id") or headers.get("x-request-id"),
    )
    kind = _KINDS.get(status, InternalServerError if status >= 500 else APIStatusError)
    return kind(problem, headers)


def _hint(headers: Mapping[str, str]) -> str:
    if "location" in headers:
        return f"It points to {headers['location']}: use that address."
    return "Is the address that of a clipcite service?"
