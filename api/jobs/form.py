"""Forms of POST /adapt and POST /models/{id}/extend."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import File, Header, Query, UploadFile
from pydantic import BaseModel, Field

from api.http.forms import JsonText, Text, form_of
from clipcite.types.adapt import Preflight
from clipcite.types.base import MAX_IMAGES
from core.errors import CodedError

LISTS = {"images", "labels", "test_images", "test_labels"}
IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern=r"^[!-~]{1,255}$",
        description="Any unique text, for example a UUID. A retry with the same key does not create a second "
        "job.",
    ),
]
DryRun = Annotated[
    bool,
    Query(description="Only check the upload. The response is 200 with the preflight; nothing is stored."),
]


class InvalidUpload(CodedError):
    """The upload is rejected. `errors` lists every bad file or field."""

    def __init__(
        self, code: str, detail: str, errors: Sequence[dict[str, str]] = (), status: int = 422
    ) -> None:
        super().__init__(code, detail)
        self.status = status
        self.errors = list(errors)


def _list(description: str) -> Any:
    return Field(default_factory=list, max_length=MAX_IMAGES, description=description)


class ImagesForm(BaseModel):
    """Labelled images, as an archive or as lists of images and labels."""

    archive: Annotated[
        UploadFile | None,
        File(
            description="A .zip with one folder per class, or with such folders in `train/` and `test/`. "
            "Alternative to `images` and `labels`."
        ),
    ] = None
    images: list[UploadFile] = _list("Training images, with `labels`. Alternative to `archive`.")
    labels: list[Text] = _list("Class name of each image, in the order of `images`.")
    test_images: list[UploadFile] = _list("Test images, on which the model is evaluated.")
    test_labels: list[Text] = _list("Class name of each test image, in the order of `test_images`.")
    on_bad_image: Literal["fail", "skip"] = Field(
        "fail", description="`fail` rejects an upload with bad images, `skip` continues without them."
    )


class JobForm(ImagesForm):
    """Labelled images and settings of a job."""

    pile: Text | None = Field(
        None,
        description="Id of a pile. Its images with a class are used for training, except those drawn at "
        "random, which become test images. Send it instead of `archive` or `images`, or in addition.",
    )
    pile_drawn: Literal["test", "train"] = Field(
        "test",
        description="`train` also trains on the images that were drawn at random. They are then not used "
        "as test images.",
    )

    name: Text | None = Field(
        None,
        description="Name of the job and of its model, which becomes the next version of that name. At most "
        "200 characters. It must not contain `@` or `/`, look like an id, or be `stock`.",
    )
    config: JsonText | None = Field(
        None,
        description="JSON object of training settings, all optional. Missing settings come from the "
        "backbone's recipe.",
        examples=['{"epochs": 10, "alpha": 0.5}'],
    )
    webhook: Text | None = Field(
        None,
        description="URL that is notified when the job has a model and when it ends. It receives "
        "`model.published`, then `job.succeeded`, `job.failed` or `job.cancelled`, signed according to "
        "Standard Webhooks. Each message is tried up to three times within an hour.",
        examples=["https://example.com/hooks/clipcite"],
    )


def check_source(form: ImagesForm, *, optional: bool = False) -> None:
    """Check that the form has an archive or lists, but not both.

    It may have neither if it names a pile, or if `optional`. Raise InvalidUpload otherwise.
    """
    lists = form.images or form.labels or form.test_images or form.test_labels
    sources = (form.archive is not None) + bool(lists)
    optional = optional or (isinstance(form, JobForm) and form.pile is not None)
    if sources != 1 and (sources or not optional):
        raise InvalidUpload(
            "archive_or_images",
            "Send either `archive` (a .zip with one folder per class), or `images` with `labels` (and "
            "optionally `test_images` with `test_labels`). A training also takes `pile`, the id of a pile "
            "with labels, instead or in addition.",
        )


JobFormDep = Annotated[JobForm, form_of(JobForm, LISTS)]
PREFLIGHT: dict[int | str, dict[str, Any]] = {
    200: {"model": Preflight, "description": "Preflight, with `dry_run`. Nothing was stored."}
}
