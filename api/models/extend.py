"""Extension of a model: a new job with its stored images and with further images or classes."""

import json
from functools import partial

from fastapi import Response

from api.http.problems import InvalidRequest, json_or_invalid
from api.jobs.form import JobForm
from api.jobs.image_check import StoredImages
from api.jobs.retrain import changed_settings
from api.jobs.submission import JobSubmission
from core.store.errors import JobNotFound, ShotsGone
from core.store.jobs import jobs
from core.store.registry import models
from core.store.registry.references import clean_name


def extend_model(
    submission: JobSubmission,
    reference: str,
    form: JobForm,
    owner: str,
    *,
    dry_run: bool,
    idempotency_key: str | None,
) -> Response:
    """Submit a job with the images of the model's job and those of the upload.

    Raises:
        ModelNotFound: the owner has no such model.
        ShotsGone: the model was imported, or its job was deleted.
        ClipCiteError: any error of `JobSubmission.submit`.
    """
    with submission.database.read() as session:
        model = models.resolve(session, reference, owner=owner)
        if model.job_id is None:  # imported
            raise ShotsGone(reference)
        try:
            job = jobs.get(session, model.job_id, owner=owner)
        except JobNotFound as error:
            raise ShotsGone(reference) from error
        rows = jobs.images(session, job.id)
    if not rows:
        raise ShotsGone(reference)
    text = form.config
    changes = json_or_invalid(text, "/config") if text and text.strip() else {}
    if not isinstance(changes, dict):
        raise InvalidRequest(
            "config is not a JSON object. Send an object of settings.",
            [{"pointer": "/config", "detail": "Not an object."}],
        )
    changed = {
        "config": json.dumps(changed_settings(job.config, changes)),
        "name": clean_name(form.name) or model.name,
    }
    return submission.submit(
        form.model_copy(update=changed),
        owner,
        dry_run=dry_run,
        idempotency_key=idempotency_key,
        existing=partial(StoredImages, rows, submission.blobs),
    )
