"""Adapted models: the rows. Their weights are blobs.

Models of an owner with the same name are its versions 1, 2, 3…; whoever gets a name gets its next number.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, bindparam, func, select
from sqlalchemy import delete as delete_from
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from core.store.accounts import owners
from core.store.db.pagination import page
from core.store.db.tables import Alias, Model, ModelName
from core.store.db.text import sanitize_text
from core.store.errors import ModelConflict, ModelNotFound
from core.store.registry import references
from core.store.storage import deletions


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
    prompts: dict[str, list[str]]
    weights_key: str
    manifest_key: str
    sha256: str
    bytes: int
    delta_format: str
    """How the change of the backbone is stored."""


@dataclass(frozen=True)
class Filters:
    """Which models to list; what is None is not asked for."""

    name: str | None = None
    backbone: str | None = None
    job_id: str | None = None
    class_name: str | None = None
    """A class that it was trained with, as it is spelled there."""
    created_after: datetime | None = None
    """At this time or later."""
    created_before: datetime | None = None


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
    version = None if model.name is None else _next_version(session, owner, model.name)
    row = Model(**asdict(model), version=version, owner=owner, job_id=job_id, metrics=metrics, created_at=at)
    session.add(row)
    session.flush()
    return row


_BY_ID = select(Model).where(Model.id == bindparam("id"), Model.owner == bindparam("owner"))
"""Put together once, since every classification asks it."""


def get(session: Session, model_id: str, *, owner: str) -> Model:
    """Raises ModelNotFound, for another owner's model too."""
    model = session.scalars(_BY_ID, {"id": sanitize_text(model_id), "owner": owner}).one_or_none()
    if model is None:
        raise ModelNotFound(model_id)
    return model


def resolve(session: Session, reference: str, *, owner: str) -> Model:
    """The model that an id, `name`, `name@version` or `name@alias` means now.

    Raises ModelNotFound, for another owner's model too.
    """
    wanted = references.parse(reference)
    if wanted is None:
        raise ModelNotFound(reference)
    if wanted.id is not None:
        return get(session, wanted.id, owner=owner)
    rows = select(Model).where(Model.owner == owner, Model.name == wanted.name)
    if wanted.version is not None:
        rows = rows.where(Model.version == wanted.version)
    elif wanted.alias is not None:
        rows = rows.join(Alias, Alias.model_id == Model.id).where(
            Alias.owner == owner, Alias.name == wanted.name, Alias.alias == wanted.alias
        )
    model = session.scalars(rows.order_by(Model.version.desc()).limit(1)).one_or_none()
    if model is None:
        raise ModelNotFound(reference)
    return model


def exists(session: Session, model_id: str) -> bool:
    """Whoever's it is."""
    return session.get(Model, model_id) is not None


def list_page(
    session: Session, *, owner: str, limit: int, after: str | None = None, filters: Filters | None = None
) -> tuple[list[Model], bool]:
    """Newest first, and whether there are more. Raises InvalidCursor."""
    rows = _filtered(session, filters or Filters())
    return page(session, rows, Model, owner=owner, limit=limit, after=after)


def aliases_of(session: Session, models: Iterable[Model]) -> dict[str, list[str]]:
    """By the ids of those that have any: the aliases that point there, in alphabetical order."""
    ids = [model.id for model in models]
    found: dict[str, list[str]] = {}
    rows = select(Alias.model_id, Alias.alias).where(Alias.model_id.in_(ids)).order_by(Alias.alias)
    for model_id, alias in session.execute(rows):
        found.setdefault(model_id, []).append(alias)
    return found


def pointing(session: Session, model: Model) -> list[str]:
    """The aliases that point to this one."""
    return aliases_of(session, [model]).get(model.id, [])


def rename(session: Session, reference: str, name: str | None, *, owner: str) -> Model:
    """Make it the next version of `name`, which is clean; None takes its name from it. A model that is
    called so already stays as it is.

    Raises:
        ModelNotFound.
        ModelConflict: an alias points to it; those belong to the name that it has.
    """
    owners.lock(session, owner)
    model = resolve(session, reference, owner=owner)
    if model.name == name:
        return model
    if aliases := pointing(session, model):
        raise ModelConflict(
            "model_has_aliases",
            f"{_spoken(model, aliases)} to it, and an alias stays with its name. Promote another model "
            "there first (PUT), or remove the alias (DELETE).",
        )
    version = None if name is None else _next_version(session, owner, name)
    model.name, model.version = name, version
    session.flush()
    return model


def delete(session: Session, reference: str, *, owner: str, force: bool = False) -> Model:
    """The deleted row. After the commit the caller finishes the deletion of its `blobs_of`.

    Raises:
        ModelNotFound.
        ModelConflict: an alias points to it. With `force` these aliases go too.
    """
    owners.lock(session, owner)  # no other deletion and no promotion at the same time
    model = resolve(session, reference, owner=owner)
    aliases = pointing(session, model)
    if aliases and not force:
        raise ModelConflict(
            "model_has_aliases",
            f"{_spoken(model, aliases)} to it. Promote another model there first (PUT), or delete it "
            "with ?force=true, which removes the alias too.",
        )
    session.execute(delete_from(Alias).where(Alias.model_id == model.id))
    session.execute(delete_from(Model).where(Model.id == model.id))
    session.expunge(model)
    deletions.mark_for_deletion(session, blobs_of(model.id))
    return model


def blobs_of(model_id: str) -> str:
    """The folder of its weights."""
    return f"models/{model_id}"


def _next_version(session: Session, owner: str, name: str) -> int:
    """A number that this name never had. Others who want one wait until this transaction ends."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    counted = (
        insert(ModelName)
        .values(owner=owner, name=name, last_version=1)
        .on_conflict_do_update(
            index_elements=["owner", "name"], set_={"last_version": ModelName.last_version + 1}
        )
        .returning(ModelName.last_version)
    )
    return session.execute(counted).scalar_one()


def _filtered(session: Session, wanted: Filters) -> Select[Model]:
    rows = select(Model)
    if wanted.name is not None:
        rows = rows.where(Model.name == references.normal(wanted.name))
    if wanted.backbone is not None:
        rows = rows.where(Model.backbone == sanitize_text(wanted.backbone))
    if wanted.job_id is not None:
        rows = rows.where(Model.job_id == sanitize_text(wanted.job_id))
    if wanted.class_name is not None:
        postgres = session.get_bind().dialect.name == "postgresql"
        elements = func.json_array_elements_text if postgres else func.json_each
        trained = elements(Model.classes).table_valued("value")
        rows = rows.where(
            select(1)
            .select_from(trained)
            .where(trained.c.value == references.normal(wanted.class_name))
            .exists()
        )
    if wanted.created_after is not None:
        rows = rows.where(Model.created_at >= wanted.created_after)
    if wanted.created_before is not None:
        rows = rows.where(Model.created_at < wanted.created_before)
    return rows


def _spoken(model: Model, aliases: list[str]) -> str:
    """`shoes@prod points`, or `shoes@prod and shoes@staging point`."""
    named = [f"{model.name}@{alias}" for alias in aliases]
    return f"{' and '.join(named)} {'points' if len(named) == 1 else 'point'}"
