"""Stored images for another training, with corrected labels and changed settings."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.http.problems import InvalidRequest
from clipcite.types.adapt import AdaptConfig, Retraining
from clipcite.types.class_names import same_class
from clipcite.types.folders import Warnings, warn
from clipcite.types.images import Image
from core.clip.config import resolve, stored_settings
from core.clip.errors import InvalidClassNames
from core.clip.prompts import clean_class_name
from core.store.db.tables import FEEDBACK, Job, JobImage, Model
from core.store.errors import JobNotFound, ShotsGone
from core.store.jobs import jobs
from core.store.registry import models


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


def stored_corrections(session: Session, model: Model) -> Sequence[JobImage]:
    """Return the images that earlier versions stored as corrections of a model, oldest first."""
    rows = select(JobImage).where(JobImage.job_id == model.job_id, JobImage.split == FEEDBACK)
    return session.scalars(rows.order_by(JobImage.position)).all()


def changed_settings(job: Job, changes: AdaptConfig) -> AdaptConfig:
    """Return a stored job's settings with changes. Leave out settings that this version does not know.

    If the backbone changes, values from the old backbone's recipe are replaced by the new backbone's recipe.
    The recipe's epochs depend on the number of images, so they are always replaced.
    """
    stored = stored_settings(job.config)
    known, changed = (settings.model_dump(exclude_unset=True) for settings in (stored, changes))
    images = sum(count["images"] for count in job.classes)
    recipe = resolve(AdaptConfig(backbone=stored.backbone, batch_size=stored.batch_size), images)
    if changed.get("backbone", stored.backbone) != stored.backbone:
        known = {name: value for name, value in known.items() if value != getattr(recipe, name)}
    elif stored.epochs == recipe.epochs:
        del known["epochs"]
    return AdaptConfig.model_validate({**known, **changed})


def checked_moves(changes: Retraining, rows: Sequence[JobImage]) -> dict[int, str]:
    """Check all positions. Return the new class names by position, in the spelling of the job's classes.

    Raises:
        InvalidRequest: a position is unknown or has two corrections, or a class name can't be used.
    """
    errors = []
    spelling = {same_class(row.class_name): row.class_name for row in reversed(rows)}
    known = {row.position for row in rows}
    seen: set[int] = set()
    moved = {}
    for name, positions in (
        ("moved", list(changes.moved)),
        ("removed", changes.removed),
        ("confirmed", changes.confirmed),
    ):
        for index, position in enumerate(positions):
            pointer = f"/moved/{position}" if name == "moved" else f"/{name}/{index}"
            if position not in known:
                detail = f"The job has no image {position}. Its positions are 0 to {len(rows) - 1}."
                errors.append({"pointer": pointer, "code": "unknown_position", "detail": detail})
            elif position in seen:
                detail = f"Image {position} has more than one correction. Send one."
                errors.append({"pointer": pointer, "code": "repeated_position", "detail": detail})
            seen.add(position)
    for position, class_name in changes.moved.items():
        try:
            clean = clean_class_name(class_name)
        except InvalidClassNames as error:
            errors.append({"pointer": f"/moved/{position}", "code": error.code, "detail": error.detail})
        else:
            moved[position] = spelling.setdefault(same_class(clean), clean)
    if errors:
        raise InvalidRequest(errors[0]["detail"], errors, "invalid_corrections")
    return moved


def corrected_images(
    rows: Sequence[JobImage], moved: Mapping[int, str], confirmed: Collection[int] = ()
) -> tuple[list[Image], Warnings]:
    """Return stored images with corrected labels, and a warning about those of the test split.

    Args:
        moved: new class names by position.
        confirmed: positions of the images whose labels the user confirmed.
    """
    warnings: Warnings = []
    detail = (
        "These corrections concern test images. They change the labels, but training does not use the "
        "images, so that the test stays fair: {names}"
    )
    held_out = [row.file_name for row in rows if row.split == "test" and row.position in moved]
    warn(warnings, "corrected_test_images", detail, held_out)
    images = [
        replace(
            jobs.image_of(row),
            split="test" if row.split == "test" else "train",
            class_name=moved.get(row.position, row.class_name),
            label_confirmed=row.label_confirmed or row.position in moved or row.position in confirmed,
        )
        for row in rows
    ]
    return images, warnings
