"""Form of POST /adapt and POST /models/{id}/extend, with limits on its parts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, File, Form, Header, Query, Request, Response, UploadFile

from api.http.forms import FormRoute, JsonText, Text, check_fields
from api.http.problems import responses
from api.jobs.upload import InvalidUpload
from api.threads import UPLOADS
from clipcite.wire.adapt import Preflight
from clipcite.wire.jobs import Job
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
LISTS = {"images", "labels", "test_images", "test_labels"}
IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern=r"^[!-~]{1,255}$",
        description="Any unique text, for example a UUID. A retry with the same key creates no second job.",
    ),
]


@dataclass(frozen=True)
class JobUpload:
    """Labelled images: either an archive, or lists of images and labels.

    Raises:
        InvalidUpload: neither or both were sent.
    """

    archive: UploadFile | None
    images: Sequence[UploadFile]
    labels: Sequence[str]
    test_images: Sequence[UploadFile]
    test_labels: Sequence[str]

    def __post_init__(self) -> None:
        lists = self.images or self.labels or self.test_images or self.test_labels
        if (self.archive is None) == (not lists):
            raise InvalidUpload(
                "archive_or_images",
                "Send either `archive` (a .zip with one folder per class), or `images` with `labels` (and "
                "optionally `test_images` with `test_labels`).",
            )


@dataclass(frozen=True)
class JobOptions:
    """All other values of the form, the query and the headers, as sent."""

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


PREFLIGHT_RESPONSE = {
    "model": Preflight,
    "description": "Preflight, with `dry_run`. Nothing was stored.",
}


def form_router(
    settings: Settings, tag: str, path: str, endpoint: Callable[..., Response], *statuses: int
) -> APIRouter:
    """Return the router of one upload, with its own limits on the number of files and fields.

    Args:
        statuses: of the errors in the OpenAPI document.
    """
    # One more than allowed passes, because the later error is more helpful.
    parts = settings.max_images + 1
    router = APIRouter(
        tags=[tag],
        route_class=FormRoute,
        form_limits={"max_files": parts + 1, "max_fields": parts + len(FIELDS)},
    )
    router.post(
        path,
        status_code=202,
        response_model=Job,
        responses={200: PREFLIGHT_RESPONSE, **responses(*statuses)},
    )(UPLOADS.runs(endpoint))
    return router


async def read_form(
    *,
    request: Request,
    archive: Annotated[
        UploadFile | None,
        File(
            description="A .zip with one folder per class, or with such folders in `train/` and `test/`. "
            "Alternative to `images` and `labels`."
        ),
    ] = None,
    images: Annotated[
        list[UploadFile],
        File(
            default_factory=list,
            max_length=MAX_IMAGES,
            description="Training images, with `labels`. Alternative to `archive`.",
        ),
    ],
    labels: Annotated[
        list[Text],
        Form(
            default_factory=list,
            max_length=MAX_IMAGES,
            description="Class name of each image, in the order of `images`.",
        ),
    ],
    test_images: Annotated[
        list[UploadFile],
        File(
            default_factory=list,
            max_length=MAX_IMAGES,
            description="Test images, on which the model is evaluated.",
        ),
    ],
    test_labels: Annotated[
        list[Text],
        Form(
            default_factory=list,
            max_length=MAX_IMAGES,
            description="Class name of each test image, in the order of `test_images`.",
        ),
    ],
    name: Annotated[
        Text | None,
        Form(
            description="Name of the job and of its model, which becomes the next version of that name. At "
            "most 200 characters, without `@` and `/`, unlike an id and not `stock`."
        ),
    ] = None,
    config: Annotated[
        JsonText | None,
        Form(
            description="JSON object of training settings, all optional. Missing "
            "settings come from the backbone's recipe.",
            examples=['{"epochs": 10, "alpha": 0.5, "holdout": 0.2}'],
        ),
    ] = None,
    on_bad_image: Annotated[
        Literal["fail", "skip"],
        Form(description="`fail` rejects an upload with bad images, `skip` continues without them."),
    ] = "fail",
    webhook: Annotated[
        Text | None,
        Form(
            description="URL that is notified when the job has a model and when it ends. It receives "
            "`model.published`, then `job.succeeded`, `job.failed` or `job.cancelled`, signed according to "
            "Standard Webhooks. Failed deliveries are retried for a day.",
            examples=["https://example.com/hooks/clipcite"],
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        Query(
            description="Only check the upload. The response is 200 with the preflight; nothing is stored."
        ),
    ] = False,
    idempotency_key: IdempotencyKey = None,
) -> JobForm:
    """Read the form.

    Raises:
        InvalidRequest: a field is unknown or present twice.
    """
    check_fields(await request.form(), FIELDS, LISTS)  # parsed already, for the parameters above
    return JobForm(
        JobUpload(archive, images, labels, test_images, test_labels),
        JobOptions(name, config, on_bad_image, webhook, dry_run, idempotency_key),
    )


JobFormDep = Annotated[JobForm, Depends(read_form)]
