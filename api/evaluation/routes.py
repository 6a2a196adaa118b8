"""Routes of /models/{id}/evaluate and /models/{id}/evaluation."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter

from api.deps import BlobsDep, CurrentOwner, DatabaseDep, ModelRef
from api.evaluation.evaluate import evaluate
from api.http.forms import form_body, form_of
from api.http.problems import responses
from api.jobs.form import LISTS, ImagesForm, InvalidUpload, check_source
from api.jobs.submission import SubmissionDep
from api.threads import UPLOADS
from clipcite.types.evaluation import Evaluation
from clipcite.types.problems import Notice, ProblemAction
from core.store.accounts import audit
from core.store.db.ids import new_id
from core.store.errors import NotFound
from core.store.jobs import jobs
from core.store.registry import models
from core.store.storage import deletions, installation

router = APIRouter(prefix="/models/{model_id}", tags=["models"])
ImagesFormDep = Annotated[ImagesForm, form_of(ImagesForm, LISTS)]
ERRORS = responses(400, 401, 404, 408, 409, 413, 422, 503, 507)


@router.post("/evaluate", responses=ERRORS, openapi_extra=form_body(ImagesForm))
@UPLOADS.runs
def evaluate_model(
    submission: SubmissionDep,
    model_id: ModelRef,
    form: ImagesFormDep,
    owner: CurrentOwner,
) -> Evaluation:
    """Evaluate a model and its pre-trained model on labelled images, and keep the result with the model.

    All images of the form are test images, which are not stored. Images that the model was trained on are
    left out. Untrained classes are scored as new classes. With at least 30 images, or as many as the job had,
    the result replaces the `metrics` of the model and of its job.
    """
    database, blobs = submission.database, submission.blobs
    with database.read() as session:
        model = models.resolve(session, model_id, owner=owner)
        trained = jobs.trained_hashes(session, model.job_id)
    check_source(form)
    installation.check(database, blobs)
    with submission.validated(form, owner, trains=False) as checked:
        unseen = [image for image in checked.images if image.sha256 not in trained]
        left_out = len(checked.images) - len(unseen)
        if not unseen:
            raise InvalidUpload(
                "trained_images",
                "The model was trained on all of these images, so they can't evaluate it. Send others.",
            )
        if left_out:
            images = "1 image was" if left_out == 1 else f"{left_out} images were"
            detail = f"{images} left out, because the model was trained on them."
            checked.warnings.append({"code": "trained_images", "detail": detail})
        checked = replace(checked, images=unseen)
        evaluation, metrics = evaluate(submission.serving, model, checked, owner)
    if not models.is_enough(model, evaluation.images):
        detail = f"The verdict stays that of the job: {evaluation.images} images are too few to replace it."
        evaluation.warnings.append(Notice(code="verdict_kept", detail=detail))
    key = f"{models.blobs_of(model.id)}/{new_id('evl')}.json"
    with deletions.unless_kept(database, blobs, key):
        blobs.put(key, evaluation.model_dump_json().encode())
        with database.write() as session:
            summary = metrics.model_dump(mode="json", exclude={"sentences"})
            replaced = models.keep_evaluation(session, model.id, key, summary, owner=owner)
            audit.record("model.evaluate", model.id)
    if replaced is not None:
        deletions.finish(database, blobs, replaced)
    return evaluation


@router.get("/evaluation", responses=responses(401, 404, 422, 503))
@UPLOADS.runs
def get_evaluation(
    database: DatabaseDep, blobs: BlobsDep, owner: CurrentOwner, model_id: ModelRef
) -> Evaluation:
    """Return the last evaluation of a model on labelled images (`POST /models/{id}/evaluate`)."""
    with database.read() as session:
        model = models.resolve(session, model_id, owner=owner)
        key = models.evaluation_key(model)
    if key is None:
        raise NotFound(
            "evaluation_not_found",
            "The model was not evaluated with images yet. Send them to ",
            ProblemAction.of("POST /models/{model_id}/evaluate", model_id=model.id),
            ".",
        )
    return Evaluation.model_validate_json(blobs.get(key))
