"""Operations of the alias routes, one transaction each."""

from api.models.aliases.schemas import Alias, AliasCheck, AliasList, Promotion
from core.store.accounts import audit
from core.store.db.session import Database
from core.store.registry import aliases, references


def list_aliases(database: Database, owner: str, name: str) -> AliasList:
    with database.read() as session:
        return AliasList(data=[Alias.of(pointer) for pointer in aliases.list_all(session, name, owner=owner)])


def get_alias(database: Database, owner: str, name: str, alias: str) -> Alias:
    with database.read() as session:
        return Alias.of(aliases.get(session, name, alias, owner=owner))


def promote(database: Database, owner: str, name: str, alias: str, promotion: Promotion) -> Alias:
    with database.write() as session:
        pointer = aliases.promote(
            session, name, alias, promotion.model, owner=owner, expected=promotion.precondition()
        )
        audit.record(session, "alias.promote", f"{pointer.alias.name}@{alias}", changed=pointer.moved)
        return Alias.of(pointer)


def rollback(database: Database, owner: str, name: str, alias: str, check: AliasCheck | None) -> Alias:
    expected = check.precondition() if check else None
    with database.write() as session:
        pointer = aliases.rollback(session, name, alias, owner=owner, expected=expected)
        audit.record(session, "alias.rollback", f"{pointer.alias.name}@{alias}")
        return Alias.of(pointer)


def delete_alias(database: Database, owner: str, name: str, alias: str) -> None:
    with database.write() as session:
        aliases.remove(session, name, alias, owner=owner)
        audit.record(session, "alias.delete", f"{references.normal(name)}@{alias}")
