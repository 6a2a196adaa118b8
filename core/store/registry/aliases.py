"""Aliases: names such as `shoes@prod` that are moved from one version of a model to another.

All that changes what an alias points to locks the owner, so that each move follows the one before.
"""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.store.accounts import owners
from core.store.db.session import database_now
from core.store.db.tables import Alias, AliasMove, Model, ModelName
from core.store.errors import AliasNotFound, ModelConflict, ModelNotFound
from core.store.registry import models, references

PROMOTED, ROLLED_BACK = "promoted", "rolled_back"
MAX_MOVES = 100


@dataclass(frozen=True)
class AliasPrecondition:
    """What the caller believes that an alias points to: a reference, or None if there is no such alias."""

    reference: str | None


@dataclass(frozen=True)
class Pointer:
    """An alias, the model that it points to, and its last moves, the newest first."""

    alias: Alias
    model: Model
    moves: list[AliasMove]


def list_all(session: Session, name: str, *, owner: str) -> list[Pointer]:
    """Those of a name, in alphabetical order. Raises ModelNotFound: no model was ever called that."""
    name = references.normal(name)
    if session.get(ModelName, (owner, name)) is None:
        raise ModelNotFound(name)
    rows = select(Alias).where(Alias.owner == owner, Alias.name == name).order_by(Alias.alias)
    return [_pointer(session, alias) for alias in session.scalars(rows)]


def get(session: Session, name: str, alias: str, *, owner: str) -> Pointer:
    """Raises AliasNotFound, for another owner's too."""
    return _pointer(session, _row(session, name, alias, owner))


def promote(
    session: Session,
    name: str,
    alias: str,
    reference: str,
    *,
    owner: str,
    expected: AliasPrecondition | None = None,
) -> Pointer:
    """From now on the alias means the model of the reference. To promote what it means already changes
    nothing.

    Raises:
        ModelNotFound, InvalidAlias.
        ModelConflict: the model has another name, or the alias does not point to what is `expected`.
    """
    references.check_alias(alias)
    owners.lock(session, owner)
    model = models.resolve(session, reference, owner=owner)
    name = references.normal(name)
    if model.name != name or references.parse(name) != references.Reference(name=name):
        raise ModelConflict(
            "alias_of_another_name",
            f"An alias of {name!r} can point to its versions only, and {reference!r} is not one of them. "
            "Promote one of these, or rename the model first (PATCH /models/{id}).",
        )
    row = session.get(Alias, (owner, name, alias))
    _check(session, row, expected, owner=owner)
    if row is None:
        row = Alias(owner=owner, name=name, alias=alias, model_id=model.id, revision=0)
        session.add(row)
        session.flush()
        _move(session, row, PROMOTED, model, back=None)
    elif row.model_id != model.id:
        _move(session, row, PROMOTED, model, back=row.revision)
    return _pointer(session, row)


def rollback(
    session: Session, name: str, alias: str, *, owner: str, expected: AliasPrecondition | None = None
) -> Pointer:
    """Take back the last promotion that was not taken back yet.

    Raises:
        AliasNotFound.
        ModelConflict: there was none before it, its model is gone, or the alias does not point to
            what is `expected`.
    """
    owners.lock(session, owner)
    row = _row(session, name, alias, owner)
    _check(session, row, expected, owner=owner)
    back = _at(session, row, row.revision).back
    if back is None:
        raise ModelConflict(
            "nothing_to_roll_back",
            f"{row.name}@{alias} has pointed to nothing else before. Promote another model (PUT), or "
            "remove the alias (DELETE).",
        )
    target = _at(session, row, back)
    model = session.get(Model, target.model_id)
    if model is None or model.name != row.name:
        raise ModelConflict(
            "rollback_target_gone",
            f"Before this {row.name}@{alias} pointed to {row.name}@{target.version} ({target.model_id}), "
            "which was deleted or renamed since. Promote another model (PUT).",
        )
    _move(session, row, ROLLED_BACK, model, back=target.back)
    return _pointer(session, row)


def remove(session: Session, name: str, alias: str, *, owner: str) -> None:
    """With its history; the models stay. Raises AliasNotFound."""
    owners.lock(session, owner)
    session.delete(_row(session, name, alias, owner))
    session.flush()


def _row(session: Session, name: str, alias: str, owner: str) -> Alias:
    row = session.get(Alias, (owner, references.normal(name), references.normal(alias)))
    if row is None:
        raise AliasNotFound(name, alias)
    return row


def _at(session: Session, row: Alias, revision: int) -> AliasMove:
    return session.get_one(AliasMove, (row.owner, row.name, row.alias, revision))


def _check(session: Session, row: Alias | None, expected: AliasPrecondition | None, *, owner: str) -> None:
    """Whoever promotes must know what they replace, if they want to be sure."""
    if expected is None:
        return
    reference = expected.reference
    wanted = None if reference is None else models.resolve(session, reference, owner=owner).id
    if wanted == (row.model_id if row else None):
        return
    if row is None:
        raise ModelConflict(
            "alias_moved", "There is no such alias yet, or no longer. Send expected=null to make it."
        )
    now = session.get_one(Model, row.model_id)
    raise ModelConflict(
        "alias_moved",
        f"{row.name}@{row.alias} points to {now.name}@{now.version} ({now.id}) now, not to what is expected. "
        "Look at what changed (GET), then send that as expected.",
    )


def _move(session: Session, row: Alias, action: str, model: Model, *, back: int | None) -> None:
    row.model_id = model.id
    row.revision += 1
    assert model.version is not None  # it has the alias's name
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
    session.flush()


def _pointer(session: Session, row: Alias) -> Pointer:
    moves = (
        select(AliasMove)
        .where(AliasMove.owner == row.owner, AliasMove.name == row.name, AliasMove.alias == row.alias)
        .order_by(AliasMove.revision.desc())
        .limit(MAX_MOVES)
    )
    return Pointer(row, session.get_one(Model, row.model_id), list(session.scalars(moves)))
