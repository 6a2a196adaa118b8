"""Routes of /models/{name}/aliases: aliases such as `shoes@prod`, with promotion and rollback."""

from typing import Annotated

from fastapi import APIRouter, Path

from api.deps import CurrentOwner, DatabaseDep
from api.http.problems import responses
from api.threads import REQUESTS
from clipcite.wire.models import Alias, AliasList, Promotion
from core.store.accounts import audit
from core.store.registry import aliases, references
from core.store.registry.aliases import Pointer

router = APIRouter(prefix="/models/{name}/aliases", tags=["models"])
Name = Annotated[str, Path(description="Name of a model.")]
AliasName = Annotated[str, Path(description="Alias, for example `prod`. It begins with a letter.")]


@router.get("", responses=responses(401, 404, 422, 503))
@REQUESTS.runs
def list_aliases(database: DatabaseDep, owner: CurrentOwner, name: Name) -> AliasList:
    """List the aliases of a name in alphabetical order, each with its history."""
    with database.read() as session:
        return AliasList(data=[_shown(pointer) for pointer in aliases.list_all(session, name, owner=owner)])


@router.get("/{alias}", responses=responses(401, 404, 422, 503))
@REQUESTS.runs
def get_alias(database: DatabaseDep, owner: CurrentOwner, name: Name, alias: AliasName) -> Alias:
    """Return an alias with its model and its history."""
    with database.read() as session:
        return _shown(aliases.get(session, name, alias, owner=owner))


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
        pointer = aliases.promote(session, name, alias, promotion.model, owner=owner)
        if pointer.moved:
            audit.record("alias.promote", f"{pointer.alias.name}@{alias}")
        return _shown(pointer)


@router.post("/{alias}/rollback", responses=responses(401, 404, 409, 422, 503, 507))
@REQUESTS.runs
def rollback(database: DatabaseDep, owner: CurrentOwner, name: Name, alias: AliasName) -> Alias:
    """Undo the last promotion of an alias. Repeated calls go back further."""
    with database.write() as session:
        pointer = aliases.rollback(session, name, alias, owner=owner)
        audit.record("alias.rollback", f"{pointer.alias.name}@{alias}")
        return _shown(pointer)


@router.delete("/{alias}", status_code=204, responses=responses(401, 404, 422, 503, 507))
@REQUESTS.runs
def delete_alias(database: DatabaseDep, owner: CurrentOwner, name: Name, alias: AliasName) -> None:
    """Delete an alias and its history. The models are kept."""
    with database.write() as session:
        aliases.remove(session, name, alias, owner=owner)
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
