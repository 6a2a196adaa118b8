"""Operations of the /samples routes."""

from starlette.responses import Response

from clipcite.wire.samples import Sample, SampleList
from core.samples import catalog

ZIP = "application/zip"


def list_samples() -> SampleList:
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


def answer_sample(name: str) -> Response:
    """Return the zip of a sample.

    Raises:
        SampleUnavailable: no such sample, or its package is not installed.
    """
    headers = {"Content-Disposition": f'attachment; filename="{catalog.find(name).name}.zip"'}
    return Response(catalog.archive(name), media_type=ZIP, headers=headers)
