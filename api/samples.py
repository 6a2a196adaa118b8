"""Routes of /samples: sample images for a first training."""

from fastapi import APIRouter, Response

from api.http.problems import responses
from api.threads import UPLOADS
from clipcite.wire.samples import Sample, SampleList
from core.samples import catalog

ZIP = "application/zip"
router = APIRouter(prefix="/samples", tags=["samples"])


@router.get("", responses=responses(401))
@UPLOADS.runs
def list_samples() -> SampleList:
    """List the sample images, the recommended sample first.

    A key of any scope is enough. A sample whose package is not installed is not listed.
    """
    return SampleList(
        data=[
            Sample(
                name=sample.name,
                title=sample.title,
                classes=list(sample.trained),
                new_classes=list(sample.new),
                images=sample.size,
                license=sample.license,
                credit=sample.credit,
                default=position == 0,
            )
            for position, sample in enumerate(catalog.available())
        ]
    )


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
    headers = {"Content-Disposition": f'attachment; filename="{catalog.find(name).name}.zip"'}
    return Response(catalog.archive(name), media_type=ZIP, headers=headers)
