"""Error responses (RFC 9457), and notices inside successful responses."""

from typing import Self
from urllib.parse import quote, urlencode

from pydantic import ConfigDict, Field

from clipcite.types.base import ResponseModel


class ProblemItem(ResponseModel):
    """An invalid file or field."""

    pointer: str | None = Field(None, description="JSON pointer to the field, or `/` and the form field.")
    file: str | None = Field(None, description="Name of the file.")
    code: str | None = Field(None, description="Machine-readable code of this error.")
    detail: str = Field(description="Cause and remedy.")


class ProblemAction(ResponseModel):
    """Request that remedies a problem. Clients show a command, a call or a link in its place."""

    operation: str = Field(description="Method and path in the OpenAPI document.")
    parameters: dict[str, str] = Field(description="Its parameters, as far as they are known.")
    request: str = Field(description="The request, as it stands in `detail`.")

    @classmethod
    def of(cls, operation: str, **parameters: str) -> Self:
        """Return the action of an operation, such as `DELETE /jobs/{job_id}`.

        Parameters outside the path form the query, or the JSON of a PATCH request.
        """
        request, query = operation, {}
        for name, value in parameters.items():
            if f"{{{name}}}" in operation:
                request = request.replace(f"{{{name}}}", quote(value, safe=""))
            else:
                query[name] = value
        if query and operation.startswith("PATCH "):
            body = ", ".join(f'"{name}": {value}' for name, value in query.items())
            request += f" with {{{body}}}"
        elif query:
            request += f"?{urlencode(query)}"
        return cls(operation=operation, parameters=parameters, request=request)

    def __str__(self) -> str:
        return self.request


class Notice(ResponseModel):
    """Warning or error inside a successful response."""

    code: str = Field(description="Machine-readable code.")
    detail: str = Field(description="Explanation for people.")


class Problem(ResponseModel):
    """Error response (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Unprocessable Entity",
                    "status": 422,
                    "detail": "1 image can't be used; see errors. Replace or remove them, or send "
                    "on_bad_image=skip to continue without them.",
                    "code": "bad_images",
                    "errors": [
                        {
                            "pointer": None,
                            "file": "red fox/3.jpg",
                            "code": "truncated_image",
                            "detail": "The JPEG file is damaged or truncated. Upload it again, or export it "
                            "again from its source.",
                        }
                    ],
                    "actions": [],
                    "request_id": "req_b92e80280a52fa3ffd6216db",
                }
            ]
        }
    )

    type: str = "about:blank"
    title: str = Field(description="Name of the HTTP status.")
    status: int = Field(description="HTTP status.")
    detail: str = Field(description="Cause and remedy.")
    code: str = Field(description="Machine-readable code of the error.")
    errors: list[ProblemItem] = Field(
        default_factory=list, description="Invalid files and fields, at most 100."
    )
    actions: list[ProblemAction] = Field(
        default_factory=list, description="Requests in `detail` that remedy it."
    )
    request_id: str | None = Field(None, description="Id of the request, as in the header `X-Request-ID`.")
