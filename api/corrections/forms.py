"""Check of forms with labelled images, for corrections and evaluations of a model."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from api.http.forms import form_of
from api.jobs.form import LISTS, ImagesForm, check_source
from api.jobs.submission import JobSubmission
from api.jobs.upload import ValidatedUpload, validate_upload
from core.scratch import scratch_folder

ImagesFormDep = Annotated[ImagesForm, form_of(ImagesForm, LISTS)]


@contextmanager
def checked_images(submission: JobSubmission, form: ImagesForm, owner: str) -> Iterator[ValidatedUpload]:
    """Decode the images of a form. Their files exist until the context ends.

    Raises:
        InvalidUpload, ArchiveError: images are missing or bad.
    """
    check_source(form)
    with submission.scratch.hold(owner) as take, scratch_folder(submission.scratch.root) as folder:
        yield validate_upload(
            folder=folder,
            take=take,
            settings=submission.settings,
            decoders=submission.serving.decoding,
            trains=False,
            **vars(form),
        )
