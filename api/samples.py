"""Routes of /samples: sample images for a first training."""

from fastapi import APIRouter, Response

from api.http.problems import responses
from api.threads import UPLOADS
from clipcite.types.samples import Sample, SampleList
from core import sample

ZIP = "application/zip"
router = APIRouter(prefix="/samples", tags=["samples"])


@router.get("", responses=responses(401))
@UPLOADS.runs
def list_samples() -> SampleList:
    """List the sample images, the recommended sample first.

    A key of any scope is enough.
    """
    parts = Sample(
        name=sample.NAME,
        title=sample.TITLE,
        classes=list(sample.TRAINED),
        new_classes=list(sample.NEW),
        images=sample.SIZE,
        license=sample.LICENSE,
        credit=sample.CREDIT,
        default=True,
    )
    return SampleList(data=[parts])


@router.get(
    "/{name}.zip",
    response_class=Response,
    responses={
        200: {"content": {ZIP: {"schema": {"type": "string", "format": "binary"}}}},
        **responses(401, 404, 422),
    },
)
@UPLOADS.runs
def download_sample(name: str) -> Response:
    """Download a sample as a zip of `train/<class>/` and `test/<class>/`, ready for `POST /adapt`.

    A key of any scope is enough. The comment of the zip has the licence and the credit.
    """
    sample.check_name(name)
    headers = {"Content-Disposition": f'attachment; filename="{name}.zip"'}
    return Response(sample.archive(), media_type=ZIP, headers=headers)
