"""Adapted models: the rows. Their weights are blobs."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete as delete_from
from sqlalchemy import select
from sqlalchemy.orm import Session

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


def add_model(
    session: Session, model: NewModel, *, job_id: str, metrics: dict[str, Any] | None, at: datetime
) -> None:
    """Only for `jobs.publish`: a model and the success of its job are one."""
    session.add(Model(**asdict(model), job_id=job_id, metrics=metrics, created_at=at))
    session.flush()


def get(session: Session, model_id: str) -> Model:
    """Raises ModelNotFound."""
    model = session.get(Model, storable(model_id))
    if model is None:
        raise ModelNotFound(model_id)
    return model


def list_page(session: Session, *, limit: int, after: str | None = None) -> tuple[list[Model], bool]:
    """Newest first, and whether there are more. Raises InvalidCursor."""
    return page(session, select(Model), Model, limit=limit, after=after)


def delete(session: Session, model_id: str) -> Model:
    """The deleted row: after the commit the caller removes its blobs. Raises ModelNotFound."""
    model = session.scalars(
        delete_from(Model).where(Model.id == storable(model_id)).returning(Model),
        execution_options={"synchronize_session": False},
    ).one_or_none()
    if model is None:
        raise ModelNotFound(model_id)
    session.expunge(model)
    return model
