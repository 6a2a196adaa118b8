"""Adapted models: the rows. Their weights are blobs."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete as delete_from
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.store import deletions
from core.store.errors import ModelNotFound
from core.store.paging import page
from core.store.tables import Model
from core.store.transitions import storable


@dataclass(frozen=True)
class NewModel:
    """A model whose files are written and checked, ready to be published."""

    id: str
    name: str | None
    backbone: str
    image_size: int | None
    classes: list[str]
    alpha: float
    templates: list[str]
    texts: dict[str, list[str]]
    weights_key: str
    manifest_key: str
    sha256: str
    bytes: int
    weights: str
    """How the change of the backbone is stored."""


def add_model(
    session: Session,
    model: NewModel,
    *,
    owner: str,
    job_id: str | None,
    metrics: dict[str, Any] | None,
    at: datetime,
) -> Model:
    """Only for `jobs.publish`, since a model and the success of its job are one, and for
    `admission.admit_model`."""
    row = Model(**asdict(model), owner=owner, job_id=job_id, metrics=metrics, created_at=at)
    session.add(row)
    session.flush()
    return row


def get(session: Session, model_id: str, *, owner: str) -> Model:
    """Raises ModelNotFound, for another owner's model too."""
    named = select(Model).where(Model.id == storable(model_id), Model.owner == owner)
    model = session.scalars(named).one_or_none()
    if model is None:
        raise ModelNotFound(model_id)
    return model


def exists(session: Session, model_id: str) -> bool:
    """Whoever's it is."""
    return session.get(Model, model_id) is not None


def list_page(
    session: Session, *, owner: str, limit: int, after: str | None = None
) -> tuple[list[Model], bool]:
    """Newest first, and whether there are more. Raises InvalidCursor."""
    return page(session, select(Model), Model, owner=owner, limit=limit, after=after)


def delete(session: Session, model_id: str, *, owner: str) -> Model:
    """The deleted row. After the commit the caller finishes the deletion of its `blobs_of`.

    Raises ModelNotFound.
    """
    model = session.scalars(
        delete_from(Model).where(Model.id == storable(model_id), Model.owner == owner).returning(Model),
        execution_options={"synchronize_session": False},
    ).one_or_none()
    if model is None:
        raise ModelNotFound(model_id)
    session.expunge(model)
    deletions.note(session, blobs_of(model.id))
    return model


def blobs_of(model_id: str) -> str:
    """The folder of its weights."""
    return f"models/{model_id}"
