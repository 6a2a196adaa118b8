"""Routes of /models/{id}/feedback, /models/{id}/evaluate and /models/{id}/evaluation."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter

from api.corrections import corrections
from api.corrections.evaluate import evaluate
from api.deps import BlobsDep, CurrentOwner, DatabaseDep, ModelRef
from api.http.forms import form_body, form_of
from api.http.problems import responses
from api.jobs.form import LISTS, ImagesForm, InvalidUpload, check_source
from api.jobs.submission import SubmissionDep
from api.threads import REQUESTS, UPLOADS
from clipcite.types.feedback import MAX_FEEDBACK, Evaluation, Feedback, FeedbackList
from clipcite.types.images import Image
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


@router.post("/feedback", status_code=201, responses=ERRORS, openapi_extra=form_body(ImagesForm))
@UPLOADS.runs
def add_feedback(
    submission: SubmissionDep,
    model_id: ModelRef,
    form: ImagesFormDep,
    owner: CurrentOwner,
) -> FeedbackList:
    """Correct a model: store images with their true classes, for `POST /models/{id}/extend`.

    `labels` are the true classes, trained or new, one per image. If an image is already a correction, it gets
    the new class, so requests can be repeated. The model does not change. The images belong to the model's
    job and are deleted with it. If the job was deleted, the response is 409.
    """
    database, blobs = submission.database, submission.blobs
    with database.read() as session:
        model, job = corrections.trained_from(session, model_id, owner=owner)
    installation.check(database, blobs)
    folder = f"{jobs.blobs_of(job.id)}/{new_id('fbk')}"
    check_source(form)
    validated = submission.validated(form, owner, trains=False)
    with validated as checked, deletions.unless_kept(database, blobs, folder):
        images = [replace(image, split="feedback", label_confirmed=True) for image in checked.images]
        first_of: dict[str, Image] = {}
        twice = [new for new in images if first_of.setdefault(new.sha256, new).class_name != new.class_name]
        if twice:
            errors = [
                {
                    "file": new.file_name,
                    "code": "image_in_two_classes",
                    "detail": f"The image is also {first.file_name!r} of class {first.class_name!r}.",
                }
                for new in twice
                for first in [first_of[new.sha256]]
            ]
            raise InvalidUpload(
                "image_in_two_classes",
                f"{errors[0]['file']!r} has two classes in this request, {twice[0].class_name!r} and "
                f"{first_of[twice[0].sha256].class_name!r}. Send each image once, with its true class.",
                errors,
            )
        images = jobs.store_images(blobs, folder, images)
        with database.write() as session:
            rows = corrections.add(
                session,
                submission.settings,
                model.id,
                images,
                owner=owner,
                folder=folder,
                most=MAX_FEEDBACK,
            )
    return FeedbackList(data=[Feedback.model_validate(row, from_attributes=True) for row in rows])


@router.get("/feedback", responses=responses(401, 404, 422, 503))
@REQUESTS.runs
def list_feedback(database: DatabaseDep, owner: CurrentOwner, model_id: ModelRef) -> FeedbackList:
    """List the corrections of a model, newest first."""
    with database.read() as session:
        rows = corrections.of_model(session, models.resolve(session, model_id, owner=owner))
    return FeedbackList(data=[Feedback.model_validate(row, from_attributes=True) for row in rows])


@router.delete("/feedback/{feedback_id}", status_code=204, responses=responses(401, 404, 422, 503, 507))
@UPLOADS.runs
def delete_feedback(
    submission: SubmissionDep, owner: CurrentOwner, model_id: ModelRef, feedback_id: str
) -> None:
    """Delete a correction with its image."""
    with submission.database.write() as session:
        key = corrections.remove(session, model_id, feedback_id, owner=owner)
    deletions.finish(submission.database, submission.blobs, key)


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
    the result replaces the `metrics` of the model.
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
    if evaluation.images < min(models.own_images(model), models.ENOUGH_IMAGES):
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
