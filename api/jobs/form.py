"""The form of POST /adapt and POST /models/{id}/extend, and the limits on its parts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, cast

from fastapi import APIRouter, Depends, File, Form, Header, Query, Request, UploadFile

from api.forms import FormRoute, JsonText, Text
from api.jobs.upload import Upload
from api.problems import InvalidRequest
from core.settings import MAX_IMAGES, Settings

FIELDS = (
    "archive",
    "images",
    "labels",
    "test_images",
    "test_labels",
    "name",
    "config",
    "on_bad_image",
    "webhook",
)
ONCE = {"archive", "name", "config", "on_bad_image", "webhook"}
IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern=r"^[!-~]{1,255}$",
        description="Any text of your own (a UUID, say): the request sent again with it makes no second job.",
    ),
]


@dataclass(frozen=True)
class JobUpload:
    """Labelled images, in either of the two ways."""

    archive: Upload | None
    images: Sequence[Upload]
    labels: Sequence[str]
    test_images: Sequence[Upload]
    test_labels: Sequence[str]


@dataclass(frozen=True)
class JobOptions:
    """All else that the form, the query and the headers say, as it was sent."""

    name: str | None
    config: str | None
    on_bad_image: Literal["fail", "skip"]
    webhook: str | None
    dry_run: bool
    idempotency_key: str | None


@dataclass(frozen=True)
class JobForm:
    upload: JobUpload
    options: JobOptions


def form_router(settings: Settings, tag: str) -> APIRouter:
    """A router of its own, for its own limits on the number of files."""
    # One more than allowed gets through, so that our own error, which says more, is the answer.
    parts = settings.max_images + 1
    return APIRouter(
        tags=[tag],
        route_class=FormRoute,
        form_limits={"max_files": parts + 1, "max_fields": parts + len(FIELDS)},
    )


async def read_form(
    *,
    request: Request,
    archive: Annotated[
        UploadFile | None,
        File(description="One .zip: a folder per class, or train/ and test/ of such folders."),
    ] = None,
    images: Annotated[
        list[UploadFile],
        File(
            default_factory=list,
            max_length=MAX_IMAGES,
            description="Or images one by one, with `labels`.",
        ),
    ],
    labels: Annotated[
        list[Text],
        Form(
            default_factory=list,
            max_length=MAX_IMAGES,
            description="The class name of each image, same order.",
        ),
    ],
    test_images: Annotated[
        list[UploadFile],
        File(default_factory=list, max_length=MAX_IMAGES, description="Images to measure the result on."),
    ],
    test_labels: Annotated[list[Text], Form(default_factory=list, max_length=MAX_IMAGES)],
    name: Annotated[
        Text | None,
        Form(
            description="A name for the job and its model, which is the next version of that name. Without @ "
            "and /, and not like a model's id or `stock`."
        ),
    ] = None,
    config: Annotated[
        JsonText | None,
        Form(
            description="A JSON object of settings, all optional; what is left out comes from the backbone's "
            "recipe.",
            examples=['{"epochs": 10, "alpha": 0.5, "holdout": 0.2}'],
        ),
    ] = None,
    on_bad_image: Annotated[
        Literal["fail", "skip"], Form(description="Refuse the upload, or go on without the bad images.")
    ] = "fail",
    webhook: Annotated[
        Text | None,
        Form(
            description="A URL that is told when the job has ended: a POST of `job.succeeded`, `job.failed` "
            "or `job.cancelled`, signed as Standard Webhooks say, sent again for a day until it is taken.",
            examples=["https://example.com/hooks/clipcite"],
        ),
    ] = None,
    dry_run: Annotated[
        bool, Query(description="Only look: answer 200 with the preflight, and store nothing.")
    ] = False,
    idempotency_key: IdempotencyKey = None,
) -> JobForm:
    """Raises InvalidRequest: a field that there is not, or that is there twice."""
    _check_fields(request)
    return JobForm(
        JobUpload(
            cast(Upload | None, archive),
            cast(Sequence[Upload], images),
            labels,
            cast(Sequence[Upload], test_images),
            test_labels,
        ),
        JobOptions(name, config, on_bad_image, webhook, dry_run, idempotency_key),
    )


JobFormDep = Annotated[JobForm, Depends(read_form)]


def _check_fields(request: Request) -> None:
    form = request._form  # parsed by FastAPI for the parameters above
    given = Counter(name for name, _ in (form.multi_items() if form else ()))
    repeated = [name for name in given if name in ONCE and given[name] > 1]
    if repeated:
        raise InvalidRequest(
            f"The field {repeated[0]!r} may be there once only; put everything into one.",
            [{"pointer": f"/{name}", "detail": "Given more than once."} for name in repeated],
        )
    unknown = [name for name in given if name not in FIELDS]
    if unknown:
        raise InvalidRequest(
            f"There is no field {unknown[0][:60]!r}; the fields are {', '.join(FIELDS)}.",
            [{"pointer": f"/{name[:60]}", "detail": "Unknown field."} for name in unknown],
        )
