"""Routes of /models/{name}/aliases: aliases such as `shoes@prod`, with promotion and rollback."""

from typing import Annotated

from fastapi import APIRouter, Path

from api.deps import CurrentOwner, DatabaseDep
from api.http.problems import responses
from api.models.aliases import service
from api.threads import REQUESTS
from clipcite.wire.models import Alias, AliasCheck, AliasList, Promotion

router = APIRouter(prefix="/models/{name}/aliases", tags=["models"])
Name = Annotated[str, Path(description="Name of a model.")]
AliasName = Annotated[str, Path(description="Alias, for example `prod`. It begins with a letter.")]


@router.get("", responses=responses(401, 404, 422, 503))
@REQUESTS.runs
def list_aliases(database: DatabaseDep, owner: CurrentOwner, name: Name) -> AliasList:
    """List the aliases of a name in alphabetical order, each with its history."""
    return service.list_aliases(database, owner, name)


@router.get("/{alias}", responses=responses(401, 404, 422, 503))
@REQUESTS.runs
def get_alias(database: DatabaseDep, owner: CurrentOwner, name: Name, alias: AliasName) -> Alias:
    """Return an alias: the model that it points to, and its history."""
    return service.get_alias(database, owner, name, alias)


@router.put("/{alias}", responses=responses(400, 401, 404, 408, 409, 413, 422, 503, 507))
@REQUESTS.runs
def promote(
    database: DatabaseDep, owner: CurrentOwner, name: Name, alias: AliasName, promotion: Promotion
) -> Alias:
    """Point an alias to a model of this name. A new alias is created.

    The change applies to all later requests. Promoting the model that the alias already points to changes
    nothing.
    """
    return service.promote(database, owner, name, alias, promotion)


@router.post("/{alias}/rollback", responses=responses(400, 401, 404, 408, 409, 413, 422, 503, 507))
@REQUESTS.runs
def rollback(
    database: DatabaseDep, owner: CurrentOwner, name: Name, alias: AliasName, check: AliasCheck | None = None
) -> Alias:
    """Undo the last promotion of an alias. Repeated calls go back further."""
    return service.rollback(database, owner, name, alias, check)


@router.delete("/{alias}", status_code=204, responses=responses(401, 404, 422, 503, 507))
@REQUESTS.runs
def delete_alias(database: DatabaseDep, owner: CurrentOwner, name: Name, alias: AliasName) -> None:
    """Delete an alias and its history. The models are kept."""
    service.delete_alias(database, owner, name, alias)
