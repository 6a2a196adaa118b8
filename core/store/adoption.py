"""Adoption: one owner gets all jobs and models of another."""

from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from core.errors import ClipCiteError
from core.store.accounts import owners
from core.store.db.tables import Alias, AliasMove, ApiKey, Job, Model, ModelName, Owner
from core.store.webhooks import deliveries


class AdoptionRefused(ClipCiteError):
    code = "adoption_refused"
    status = 409


@dataclass(frozen=True)
class Adopted:
    """Outcome of an adoption: numbers of rows with a new owner."""

    source: str
    target: str
    jobs: int
    models: int
    aliases: int


def adopt(session: Session, source: str, target: str | None) -> Adopted:
    """Give all jobs and models of an owner to another one. API keys and webhook secrets stay.

    Pending webhooks are still signed with the secret of the old owner, which their receivers know. Those of
    jobs that end later are signed with the secret of the new one.

    Args:
        target: the new owner; None is the only other owner with a key.

    Raises:
        AdoptionRefused: an owner does not exist, or both have models with the same name. Nothing is changed.
    """
    target = target or _only_other(session, source)
    if source == target:
        raise AdoptionRefused(f"{source!r} is the owner already. Name another one with --to.")
    # Jobs before their owners, and these in alphabetical order, against deadlocks.
    session.execute(select(Job.id).where(Job.owner == source).with_for_update())
    for name in sorted([source, target]):
        if session.get(Owner, name) is None:
            raise AdoptionRefused(f"There is no owner {name!r}. `clipcite keys list` shows those with keys.")
        owners.lock(session, name)
    named = select(Model.name).where(Model.owner == source, Model.name.is_not(None))
    shared = session.scalars(named.where(Model.name.in_(select(Model.name).where(Model.owner == target))))
    if names := sorted(set(map(str, shared))):
        raise AdoptionRefused(
            f"Both owners have models named {', '.join(map(repr, names))}. Rename those of one owner first "
            "(`clipcite models rename`)."
        )
    aliases = _move_names(session, source, target)
    moved = [
        session.scalars(
            update(table).where(table.owner == source).values(owner=target).returning(table.id),
            execution_options={"synchronize_session": False},
        ).all()
        for table in (Job, Model)
    ]
    deliveries.secret(session, target)  # signs the webhooks of jobs that have not ended
    session.expire_all()
    return Adopted(source, target, len(moved[0]), len(moved[1]), aliases)


def _only_other(session: Session, source: str) -> str:
    others = session.scalars(select(ApiKey.owner).where(ApiKey.owner != source).distinct()).all()
    if len(others) != 1:
        raise AdoptionRefused(
            f"There are {len(others)} other owners with keys. Name the new owner with --to."
        )
    return others[0]


def _move_names(session: Session, source: str, target: str) -> int:
    """Move version numbers and aliases with their history. Return the number of aliases."""
    for row in session.scalars(select(ModelName).where(ModelName.owner == source)).all():
        known = session.get(ModelName, (target, row.name))  # of models deleted since
        if known is None:
            session.add(ModelName(owner=target, name=row.name, last_version=row.last_version))
        else:
            known.last_version = max(known.last_version, row.last_version)
        session.delete(row)
    session.flush()
    rows = session.execute(select(Alias.__table__).where(Alias.owner == source)).mappings().all()
    if rows:
        # The history refers to the alias by its owner, so the alias is copied before the history moves.
        session.execute(insert(Alias), [{**row, "owner": target} for row in rows])
        session.execute(
            update(AliasMove).where(AliasMove.owner == source).values(owner=target),
            execution_options={"synchronize_session": False},
        )
        session.execute(
            delete(Alias).where(Alias.owner == source), execution_options={"synchronize_session": False}
        )
    return len(rows)
