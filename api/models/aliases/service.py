"""Operations of the alias routes, one transaction each."""

from clipcite.wire.models import Alias, AliasCheck, AliasList, Promotion
from core.store.accounts import audit
from core.store.db.session import Database
from core.store.registry import aliases, references
from core.store.registry.aliases import AliasPrecondition, Pointer


def list_aliases(database: Database, owner: str, name: str) -> AliasList:
    with database.read() as session:
        return AliasList(data=[_shown(pointer) for pointer in aliases.list_all(session, name, owner=owner)])


def get_alias(database: Database, owner: str, name: str, alias: str) -> Alias:
    with database.read() as session:
        return _shown(aliases.get(session, name, alias, owner=owner))


def promote(database: Database, owner: str, name: str, alias: str, promotion: Promotion) -> Alias:
    with database.write() as session:
        pointer = aliases.promote(
            session, name, alias, promotion.model, owner=owner, expected=_precondition(promotion)
        )
        if pointer.moved:
            audit.record(session, "alias.promote", f"{pointer.alias.name}@{alias}")
        return _shown(pointer)


def rollback(database: Database, owner: str, name: str, alias: str, check: AliasCheck | None) -> Alias:
    expected = _precondition(check) if check else None
    with database.write() as session:
        pointer = aliases.rollback(session, name, alias, owner=owner, expected=expected)
        audit.record(session, "alias.rollback", f"{pointer.alias.name}@{alias}")
        return _shown(pointer)


def delete_alias(database: Database, owner: str, name: str, alias: str) -> None:
    with database.write() as session:
        aliases.remove(session, name, alias, owner=owner)
        audit.record(session, "alias.delete", f"{references.normal(name)}@{alias}")


def _precondition(check: AliasCheck) -> AliasPrecondition | None:
    return AliasPrecondition(check.expected) if "expected" in check.model_fields_set else None


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
