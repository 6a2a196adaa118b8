"""Operations of the routes of aliases, one transaction each."""

from api.models.aliases.schemas import AliasList, AliasOut, Check, Promotion
from core.store.db.session import Database
from core.store.registry import aliases


def list_aliases(database: Database, owner: str, name: str) -> AliasList:
    with database.read() as session:
        return AliasList(data=[AliasOut.of(found) for found in aliases.list_all(session, name, owner=owner)])


def get_alias(database: Database, owner: str, name: str, alias: str) -> AliasOut:
    with database.read() as session:
        return AliasOut.of(aliases.get(session, name, alias, owner=owner))


def promote(database: Database, owner: str, name: str, alias: str, promotion: Promotion) -> AliasOut:
    with database.write() as session:
        pointer = aliases.promote(
            session, name, alias, promotion.model, owner=owner, expected=promotion.precondition()
        )
        return AliasOut.of(pointer)


def rollback(database: Database, owner: str, name: str, alias: str, check: Check | None) -> AliasOut:
    expected = check.precondition() if check else None
    with database.write() as session:
        return AliasOut.of(aliases.rollback(session, name, alias, owner=owner, expected=expected))


def delete_alias(database: Database, owner: str, name: str, alias: str) -> None:
    with database.write() as session:
        aliases.remove(session, name, alias, owner=owner)
