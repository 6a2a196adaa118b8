"""Exceptions. For an error response, the exception has the text of the service."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from clipcite.types.jobs import Job
    from clipcite.types.problems import Problem


ROUTES = (
    (r"GET /models/(\S+)/aliases", r"clipcite models aliases \1", r"client.aliases.list('\1')"),
    (r"GET /models/(\S+)/export[\w?=]*", r"clipcite export \1 -o FILE", r"client.models.export('\1', path)"),
    (r"GET /models/\S+/feedback", r"the Python client's model.feedback()", r"model.feedback()"),
    (r"POST /models/(\S+)/extend", r"clipcite adapt --extends \1", r"model.extend()"),
    (r"GET /models\b", r"clipcite models list", r"client.models.list()"),
    (r"POST /models\b", r"clipcite models import", r"client.models.import_model(path)"),
    (
        r'PATCH /models/(\w+) with \{"promoted": true\}',
        r"clipcite models use \1",
        r"client.models.promote('\1')",
    ),
    (r"PATCH /models/(\w+)", r"clipcite models rename \1 NAME", r"client.models.rename('\1', name)"),
    (r"DELETE /models/(\w+)", r"clipcite models delete \1", r"client.models.delete('\1')"),
    (r"POST /jobs/(\S+)/cancel", r"clipcite jobs cancel \1", r"client.jobs.cancel('\1')"),
    (r"DELETE /jobs/(\w+)", r"clipcite jobs delete \1", r"client.jobs.delete('\1')"),
    (r"GET /jobs/(\S+)/images", r"clipcite report \1 --json", r"client.jobs.report('\1')"),
    (r"GET /jobs/(\S+)\?wait=\d+", r"clipcite jobs wait \1", r"client.jobs.wait('\1')"),
    (r"GET /jobs/(\w+)", r"clipcite jobs show \1", r"client.jobs.get('\1')"),
    (r"GET /jobs\b", r"clipcite jobs list", r"client.jobs.list()"),
    (r"POST /adapt\?dry_run=true", r"clipcite adapt --dry-run", r"client.preflight(images)"),
    (r"POST /adapt\b", r"clipcite adapt", r"client.adapt(images)"),
    (r"(?<=\()PUT(?=\))", r"clipcite models promote", r"client.aliases.promote()"),
    (r"(?<=\()DELETE(?=\))", r"clipcite models unalias", r"client.aliases.delete()"),
    (r"\?force=true", r"--force", r"force=True"),
)
"""Routes in the service's advice, each with its command and its call in Python.

PUT and DELETE in brackets are those of an alias.
"""


class ClipCiteError(Exception):
    """Base class of all exceptions of this library."""


class APIConnectionError(ClipCiteError):
    """No response: connection refused, connection lost, or timeout."""


class InvalidAddress(ClipCiteError):
    """An invalid address, API key, id or name. The address must be an http or https URL."""


class InvalidImages(ClipCiteError):
    """Input that cannot be uploaded as labelled images."""


class WaitTimeout(ClipCiteError):
    """Timeout of `wait`. The job continues. `job` is its last known state, or None without a response."""

    def __init__(self, job_id: str, job: "Job | None") -> None:
        state = f"is still {job.status} and continues" if job else "continues; the service did not respond"
        super().__init__(f"{job_id} {state}. Wait again with the id of the job.")
        self.job = job


class JobFailed(ClipCiteError):
    """The awaited job ended without a model. `job.error` holds the reason."""

    def __init__(self, job: "Job") -> None:
        reason = f": {job.error.detail} ({job.error.code})" if job.error else "."
        super().__init__(f"{job.id} {'was cancelled' if job.status == 'cancelled' else 'failed'}{reason}")
        self.job = job


class APIStatusError(ClipCiteError):
    """An error response. `problem` is its body; the fields are also attributes of the exception."""

    body: Any = None
    """JSON as received; None if the response is not JSON."""

    def __init__(self, problem: "Problem", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.headers: Mapping[str, str] = headers or {}
        self.status = problem.status
        self.code = problem.code
        self.detail = problem.detail
        self.errors = problem.errors
        self.request_id = problem.request_id

    def with_files(self, names: Sequence[str | None]) -> Self:
        """Return the exception with other file names in its errors."""
        items = [
            item.model_copy(update={"file": name}) for item, name in zip(self.errors, names, strict=False)
        ]
        return type(self)(self.problem.model_copy(update={"errors": items}), self.headers)

    def __str__(self) -> str:
        return self.text("python")

    def text(self, caller: Literal["commands", "python"]) -> str:
        """Return the detail, each invalid file or field, and the request id.

        Routes and fields of the service are replaced by commands or calls in Python.
        """
        items = [f"  {item.file or item.pointer or ''}: {item.detail}" for item in self.errors]
        tail = [f"({self.status} {self.code}, request {self.request_id})"] if self.request_id else []
        option = "--on-bad-image skip" if caller == "commands" else "on_bad_image='skip'"
        detail = self.detail.replace(" See `errors` for the reasons.", "")  # they follow
        text = "\n".join([detail, *items, *tail]).replace("send on_bad_image=skip", f"use {option}")
        text = text.replace("/models/{id}", "/models/MODEL").replace("/jobs/{id}", "/jobs/JOB")
        for pattern, command, call in ROUTES:
            text = re.sub(pattern, f"`{command if caller == 'commands' else call}`", text)
        return text


class AuthenticationError(APIStatusError):
    """401: missing or invalid API key."""


class PermissionDeniedError(APIStatusError):
    """403: the API key lacks the scope, or a browser sent a cross-site request."""


class NotFoundError(APIStatusError):
    """404: the resource does not exist or belongs to another owner."""


class ConflictError(APIStatusError):
    """409: the request conflicts with the state of the resource."""


class UnprocessableEntityError(APIStatusError):
    """400, 413 and 422: invalid request; `errors` names each invalid file or field."""


class RateLimitError(APIStatusError):
    """429: a limit of the key or the owner is reached, and all retries failed."""


class InternalServerError(APIStatusError):
    """5xx: the service failed, and all retries failed where a retry is allowed."""


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


def error_of(status: int, headers: Mapping[str, str], body: Any) -> APIStatusError:
    """Return the exception for a status; `body` is the parsed body of any type."""
    from clipcite.types.problems import Problem, ProblemItem  # here: the command line imports this module

    fields = body if isinstance(body, dict) else {}
    items = [
        ProblemItem.model_construct(**{**item, "detail": str(item.get("detail", ""))})
        for item in fields.get("errors") or []
        if isinstance(item, dict)
    ]
    target = headers.get("location")
    hint = f"The response redirects to {target}: use that address." if target else "Check the address."
    problem = Problem.model_construct(
        status=status,
        title=str(fields.get("title") or ""),
        detail=str(fields.get("detail") or f"Status {status}, but not from a clipcite service. {hint}"),
        code=str(fields.get("code") or "http_error"),
        errors=items,
        request_id=fields.get("request_id") or headers.get("x-request-id"),
    )
    kind = _KINDS.get(status, InternalServerError if status >= 500 else APIStatusError)
    error = kind(problem, headers)
    error.body = body
    return error
