"""Exceptions. For an error response, the exception has the text of the service."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from clipcite.types.jobs import Job
    from clipcite.types.problems import Problem


ADVICE: Mapping[str, tuple[str | None, str]] = {
    "GET /models": ("clipcite models list", "client.models.list()"),
    "PATCH /models/{model_id}": (
        "clipcite models rename {model_id} NAME",
        "client.models.rename({model_id}, name)",
    ),
    "PATCH /models/{model_id}?promoted": (
        "clipcite models use {model_id}",
        "client.models.promote({model_id})",
    ),
    "DELETE /models/{model_id}": ("clipcite models delete {model_id}", "client.models.delete({model_id})"),
    "DELETE /models/{model_id}?force": (
        "clipcite models delete {model_id} --force",
        "client.models.delete({model_id}, force=True)",
    ),
    "GET /models/{model_id}/export?format": (
        "clipcite export {model_id} --format {format} -o FILE",
        "client.models.export({model_id}, path, format={format})",
    ),
    "POST /models/{model_id}/evaluate": (
        "clipcite evaluate {model_id} FOLDER",
        "model.evaluate(images)",
    ),
    "GET /models/{name}/aliases": ("clipcite models aliases {name}", "client.aliases.list({name})"),
    "PUT /models/{name}/aliases/{alias}": (
        "clipcite models promote {name}@{alias} MODEL",
        "client.aliases.promote({name}, {alias}, model)",
    ),
    "DELETE /models/{name}/aliases/{alias}": (
        "clipcite models unalias {name}@{alias}",
        "client.aliases.delete({name}, {alias})",
    ),
    "GET /jobs": ("clipcite jobs list", "client.jobs.list()"),
    "GET /jobs/{job_id}": ("clipcite jobs show {job_id}", "client.jobs.get({job_id})"),
    "GET /jobs/{job_id}?wait": ("clipcite jobs wait {job_id}", "client.jobs.wait({job_id})"),
    "GET /jobs/{job_id}/images": ("clipcite report {job_id} --json", "client.jobs.report({job_id})"),
    "POST /jobs/{job_id}/cancel": ("clipcite jobs cancel {job_id}", "client.jobs.cancel({job_id})"),
    "DELETE /jobs/{job_id}": ("clipcite jobs delete {job_id}", "client.jobs.delete({job_id})"),
    "POST /adapt": ("clipcite adapt FOLDER", "client.adapt(images)"),
    "GET /piles": ("clipcite piles list", "client.piles.list()"),
    "DELETE /piles/{pile_id}": ("clipcite piles delete {pile_id}", "client.piles.delete({pile_id})"),
    "POST /piles/{pile_id}/images": (None, "client.piles.create(images)"),
}
"""Command, if there is one, and call in Python for an operation and its parameters outside the path."""


class _Values(dict[str, str]):
    """Quoted parameters. A missing one is a word in capitals."""

    def __init__(self, parameters: Mapping[str, str], quote: Callable[[str], str]) -> None:
        super().__init__({name: quote(value) for name, value in parameters.items()})
        self._quote = quote

    def __missing__(self, name: str) -> str:
        return self._quote(name.removesuffix("_id").upper())


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

        Requests of the service are replaced by commands or calls in Python.
        """
        items = [f"  {item.file or item.pointer or ''}: {item.detail}" for item in self.errors]
        tail = [f"({self.status} {self.code}, request {self.request_id})"] if self.request_id else []
        option = "--on-bad-image skip" if caller == "commands" else "on_bad_image='skip'"
        detail = self.detail.replace(" See `errors` for the reasons.", "")  # they follow
        for action in self.problem.actions:
            others = [name for name in action.parameters if f"{{{name}}}" not in action.operation]
            command, call = ADVICE.get("?".join([action.operation, *others]), (None, None))
            advice, quote = (command, shlex.quote) if caller == "commands" else (call, repr)
            if advice is not None:
                advice = advice.format_map(_Values(action.parameters, quote))
                detail = detail.replace(action.request, f"`{advice}`")
        return "\n".join([detail, *items, *tail]).replace("send on_bad_image=skip", f"use {option}")


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
    # Here, because the command line imports this module.
    from clipcite.types.problems import Problem, ProblemAction, ProblemItem

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
        actions=[
            ProblemAction.model_construct(**{"operation": "", "parameters": {}, "request": "", **action})
            for action in fields.get("actions") or []
            if isinstance(action, dict)
        ],
        request_id=fields.get("request_id") or headers.get("x-request-id"),
    )
    kind = _KINDS.get(status, InternalServerError if status >= 500 else APIStatusError)
    error = kind(problem, headers)
    error.body = body
    return error
