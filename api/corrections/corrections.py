"""Corrections of a model: images with their true class, as rows of its job with the split `feedback`.

So they count for the quota, are in backups, and are deleted with the job. Only `extend` trains from them.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from api import quotas
from clipcite.types.images import Image
from clipcite.types.problems import ProblemAction
from core.clip.prompts import same_class
from core.settings import Settings
from core.store.accounts import audit, owners
from core.store.db.ids import new_id
from core.store.db.session import database_now
from core.store.db.tables import FEEDBACK, Job, JobImage, Model
from core.store.db.text import sanitize_text
from core.store.errors import Conflict, JobNotFound, NotFound, ShotsGone
from core.store.jobs import jobs
from core.store.registry import models
from core.store.storage import deletions


def trained_from(session: Session, reference: str, *, owner: str) -> tuple[Model, Job]:
    """Return a model and its job. Lock the job until the transaction ends.

    Raises:
        ModelNotFound: the owner has no such model.
        ShotsGone: the model has no job, or the job has no images.
    """
    model = models.resolve(session, reference, owner=owner)
    with suppress(JobNotFound):  # imported models have no job
        job = jobs.get(session, model.job_id or "", owner=owner, lock=True)
        if jobs.image(session, job.id, 0) is not None:
            return model, job
    raise ShotsGone(reference)


def of_model(session: Session, model: Model) -> Sequence[JobImage]:
    """Return the corrections, newest first."""
    rows = select(JobImage).where(JobImage.job_id == model.job_id, JobImage.split == FEEDBACK)
    return session.scalars(rows.order_by(JobImage.position.desc())).all()


def add(
    session: Session,
    settings: Settings,
    reference: str,
    images: Sequence[Image],
    *,
    owner: str,
    folder: str,
    most: int,
) -> list[JobImage]:
    """Add corrections. Their blobs are stored in `folder`, which was announced before (`deletions`).

    A class gets the spelling that the model or an earlier correction has for it. If an image is already a
    correction, it gets the new class, and the new blob is deleted. The owner is locked, so concurrent
    requests can't exceed a limit, add an image twice, or spell a new class in two ways.

    Args:
        most: maximum number of corrections of the model.

    Returns:
        The corrections of these images.

    Raises:
        ModelNotFound, ShotsGone: see `trained_from`.
        Conflict: the model would have more than `most` corrections.
        ByteQuota: the quota is exceeded.
    """
    owners.lock(session, owner)
    model, job = trained_from(session, reference, owner=owner)
    known = {row.sha256: row for row in of_model(session, model)}
    earlier = [row.class_name for row in known.values()]
    spelling = {same_class(name): name for name in (*earlier, *model.classes)}
    at, before, more_bytes = database_now(session), len(known), 0
    position = (session.scalar(select(func.max(JobImage.position)).where(JobImage.job_id == job.id)) or 0) + 1
    changed = False
    deletions.keep(session, folder)
    for sent in images:
        image = replace(sent, class_name=spelling.get(same_class(sent.class_name), sent.class_name))
        row = known.get(image.sha256)
        if row is None:
            columns = jobs.columns_of(image)
            row = JobImage(id=new_id("fbk"), job_id=job.id, position=position, created_at=at, **columns)
            session.add(row)
            known[image.sha256] = row
            position, more_bytes = position + 1, more_bytes + image.bytes
        else:
            changed |= row.class_name != image.class_name
            row.class_name = image.class_name
            deletions.mark_for_deletion(session, str(image.content))
    if len(known) > most:
        raise Conflict(
            "too_much_feedback",
            f"The model would have {len(known):,} corrections, and the maximum is {most:,}. Train a new "
            "model from them with ",
            ProblemAction.of("POST /models/{model_id}/extend", model_id=model.id),
            ", and correct that model.",
        )
    quotas.check_quota(session, owner, settings, more_bytes=more_bytes)
    job.image_bytes += more_bytes
    if changed or len(known) > before:
        audit.record("feedback.add", model.id)
    return list({image.sha256: known[image.sha256] for image in images}.values())


def remove(session: Session, reference: str, correction_id: str, *, owner: str) -> str:
    """Delete a correction and return the key of its blob. The caller must delete the blob after the commit.

    Raises:
        ModelNotFound: the owner has no such model.
        NotFound: the model has no such correction.
    """
    model = models.resolve(session, reference, owner=owner)
    mine = (JobImage.id == sanitize_text(correction_id), JobImage.split == FEEDBACK)
    gone = delete(JobImage).where(JobImage.job_id == model.job_id, *mine)
    row = session.execute(gone.returning(JobImage.blob_key, JobImage.bytes)).one_or_none()
    if row is None:
        raise NotFound(
            "feedback_not_found",
            f"The model has no correction {correction_id!r}. ",
            ProblemAction.of("GET /models/{model_id}/feedback", model_id=model.id),
            " lists them.",
        )
    less = update(Job).where(Job.id == model.job_id).values(image_bytes=Job.image_bytes - row.bytes)
    session.execute(less, execution_options={"synchronize_session": False})
    deletions.mark_for_deletion(session, row.blob_key)
    audit.record("feedback.delete", model.id)
    return str(row.blob_key)
