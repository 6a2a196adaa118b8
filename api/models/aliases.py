"""Aliases such as `shoes@prod`: pointers that move from one version of a model to another.

The routes of /models/{name}/aliases, and then the functions on rows. Every function that moves an alias locks
the owner, so moves are serialised.
"""

from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Path
from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from api.deps import CurrentOwner, DatabaseDep
from api.http.problems import responses
from api.threads import REQUESTS
from clipcite.types.models import Alias, AliasList, Promotion
from clipcite.types.problems import ProblemAction
from core.store.accounts import audit, owners
from core.store.db import tables
from core.store.db.session import database_now
from core.store.db.tables import AliasMove, Model, ModelName
from core.store.errors import Conflict, ModelNotFound, NotFound
from core.store.registry import models, references

router = APIRouter(prefix="/models/{name}/aliases", tags=["models"])
Name = Annotated[str, Path(description="Name of a model.")]
AliasName = Annotated[str, Path(description="Alias, for example `prod`. It begins with a letter.")]
PROMOTED, ROLLED_BACK = "promoted", "rolled_back"
MAX_MOVES = 100
"""Number of an alias's newest moves that are kept."""


@dataclass(frozen=True)
class Pointer:
    """An alias with its model and its last moves, newest first."""

    alias: tables.Alias
    model: Model
    moves: list[AliasMove]
    moved: bool = True
    """False after a promotion of the model to which the alias already pointed."""


@router.get("", responses=responses(401, 404, 422, 503))
@REQUESTS.runs
def list_aliases(database: DatabaseDep, owner: CurrentOwner, name: Name) -> AliasList:
    """List the aliases of a name in alphabetical order, each with its history."""
    with database.read() as session:
        return AliasList(data=[_shown(pointer) for pointer in list_pointers(session, name, owner=owner)])


@router.get("/{alias}", responses=responses(401, 404, 422, 503))
@REQUESTS.runs
def get_alias(database: DatabaseDep, owner: CurrentOwner, name: Name, alias: AliasName) -> Alias:
    """Return an alias with its model and its history."""
    with database.read() as session:
        return _shown(pointer_of(session, name, alias, owner=owner))


@router.put("/{alias}", responses=responses(400, 401, 404, 408, 409, 413, 422, 503, 507))
@REQUESTS.runs
def promote(
    database: DatabaseDep, owner: CurrentOwner, name: Name, alias: AliasName, promotion: Promotion
) -> Alias:
    """Point an alias to a model of this name. A new alias is created.

    The change applies to all later requests. Promoting the model that the alias already points to changes
    nothing.
    """
    with database.write() as session:
        pointer = move_to(session, name, alias, promotion.model, owner=owner)
        if pointer.moved:
            audit.record("alias.promote", f"{pointer.alias.name}@{alias}")
        return _shown(pointer)


@router.post("/{alias}/rollback", responses=responses(401, 404, 409, 422, 503, 507))
@REQUESTS.runs
def rollback(database: DatabaseDep, owner: CurrentOwner, name: Name, alias: AliasName) -> Alias:
    """Undo the last promotion of an alias. Repeated calls go back further."""
    with database.write() as session:
        pointer = move_back(session, name, alias, owner=owner)
        audit.record("alias.rollback", f"{pointer.alias.name}@{alias}")
        return _shown(pointer)


@router.delete("/{alias}", status_code=204, responses=responses(401, 404, 422, 503, 507))
@REQUESTS.runs
def delete_alias(database: DatabaseDep, owner: CurrentOwner, name: Name, alias: AliasName) -> None:
    """Delete an alias and its history. The models are kept."""
    with database.write() as session:
        remove(session, name, alias, owner=owner)
        audit.record("alias.delete", f"{references.normal(name)}@{alias}")


def _shown(pointer: Pointer) -> Alias:
    alias = pointer.alias
    return Alias.model_validate(
        {
            "reference": f"{alias.name}@{alias.alias}",
            "name": alias.name,
            "alias": alias.alias,
            "model": pointer.model.id,
            "version": pointer.model.version,
            "revision": alias.revision,
            "history": [
                {
                    "revision": move.revision,
                    "action": move.action,
                    "model": move.model_id,
                    "version": move.version,
                    "at": move.at,
                }
                for move in pointer.moves
            ],
        }
    )


def list_pointers(session: Session, name: str, *, owner: str) -> list[Pointer]:
    """Return the aliases of a name in alphabetical order.

    Raises:
        ModelNotFound: no model ever had the name.
    """
    name = references.normal(name)
    if session.get(ModelName, (owner, name)) is None:
        raise ModelNotFound(name)
    rows = (
        select(tables.Alias)
        .where(tables.Alias.owner == owner, tables.Alias.name == name)
        .order_by(tables.Alias.alias)
    )
    return [_pointer(session, alias) for alias in session.scalars(rows)]


def pointer_of(session: Session, name: str, alias: str, *, owner: str) -> Pointer:
    """Return an alias. Raise NotFound if the owner has no such alias."""
    return _pointer(session, _row(session, name, alias, owner))


def move_to(session: Session, name: str, alias: str, reference: str, *, owner: str) -> Pointer:
    """Point the alias to the model of the reference. Promoting its current model changes nothing.

    Raises:
        ModelNotFound: the owner has no such model.
        InvalidAlias: the alias has an invalid name.
        Conflict: the model has another name.
    """
    references.check_alias(alias)
    owners.lock(session, owner)
    model = models.resolve(session, reference, owner=owner)
    name = references.normal(name)
    if model.name != name or references.parse(name) != references.Reference(name=name):
        raise Conflict(
            "alias_of_another_name",
            f"An alias of {name!r} can only point to a version of {name!r}, and {reference!r} is not one. "
            "Promote a version of it, or rename the model first with ",
            ProblemAction.of("PATCH /models/{model_id}", model_id=model.id),
            ".",
        )
    row = session.get(tables.Alias, (owner, name, alias))
    if row is None:
        row = tables.Alias(owner=owner, name=name, alias=alias, model_id=model.id, revision=0)
        session.add(row)
        session.flush()
        _move(session, row, PROMOTED, model, back=None)
    elif row.model_id != model.id:
        _move(session, row, PROMOTED, model, back=row.revision)
    else:
        return replace(_pointer(session, row), moved=False)
    return _pointer(session, row)


def move_back(session: Session, name: str, alias: str, *, owner: str) -> Pointer:
    """Undo the last promotion that has not been undone yet.

    Raises:
        NotFound: the owner has no such alias.
        Conflict: there is no earlier model, or it was deleted or renamed.
    """
    owners.lock(session, owner)
    row = _row(session, name, alias, owner)
    back = session.get_one(AliasMove, (row.owner, row.name, row.alias, row.revision)).back
    target = None if back is None else session.get(AliasMove, (row.owner, row.name, row.alias, back))
    if target is None:  # never existed, or is older than the last MAX_MOVES moves
        raise Conflict(
            "nothing_to_roll_back",
            f"{row.name}@{alias} has no earlier model. Promote another model with ",
            ProblemAction.of("PUT /models/{name}/aliases/{alias}", name=row.name, alias=row.alias),
            ", or delete the alias with ",
            ProblemAction.of("DELETE /models/{name}/aliases/{alias}", name=row.name, alias=row.alias),
            ".",
        )
    model = session.get(Model, target.model_id)
    if model is None or model.name != row.name:
        raise Conflict(
            "rollback_target_gone",
            f"{row.name}@{alias} pointed to {row.name}@{target.version} ({target.model_id}) before. That "
            "model was deleted or renamed. Promote another model with ",
            ProblemAction.of("PUT /models/{name}/aliases/{alias}", name=row.name, alias=row.alias),
            ".",
        )
    _move(session, row, ROLLED_BACK, model, back=target.back)
    return _pointer(session, row)


def remove(session: Session, name: str, alias: str, *, owner: str) -> None:
    """Delete an alias and its history, but not its models. Raise NotFound if it does not exist."""
    owners.lock(session, owner)
    session.delete(_row(session, name, alias, owner))
    session.flush()


def _row(session: Session, name: str, alias: str, owner: str) -> tables.Alias:
    row = session.get(tables.Alias, (owner, references.normal(name), references.normal(alias)))
    if row is None:
        raise NotFound(
            "alias_not_found",
            f"There is no alias {alias!r} of {name!r}. ",
            ProblemAction.of("GET /models/{name}/aliases", name=name),
            " lists its aliases.",
        )
    return row


def _move(session: Session, row: tables.Alias, action: str, model: Model, *, back: int | None) -> None:
    row.model_id = model.id
    row.revision += 1
    assert model.version is not None  # because it has the alias's name
    session.add(
        AliasMove(
            owner=row.owner,
            name=row.name,
            alias=row.alias,
            revision=row.revision,
            action=action,
            model_id=model.id,
            version=model.version,
            back=back,
            at=database_now(session),
        )
    )
    session.execute(
        delete(AliasMove).where(*_of(row), AliasMove.revision <= row.revision - MAX_MOVES),
        execution_options={"synchronize_session": False},
    )
    session.flush()


def _of(row: tables.Alias) -> tuple[ColumnElement[bool], ...]:
    return AliasMove.owner == row.owner, AliasMove.name == row.name, AliasMove.alias == row.alias


def _pointer(session: Session, row: tables.Alias) -> Pointer:
    moves = select(AliasMove).where(*_of(row)).order_by(AliasMove.revision.desc()).limit(MAX_MOVES)
    return Pointer(row, session.get_one(Model, row.model_id), list(session.scalars(moves)))
