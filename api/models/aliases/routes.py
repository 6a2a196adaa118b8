"""/models/{name}/aliases: names such as `shoes@prod` for one version of a model, to promote and roll back."""

from typing import Annotated

from fastapi import APIRouter, Path

from api.deps import CurrentOwner, DatabaseDep
from api.models.aliases import service
from api.models.aliases.schemas import Alias, AliasList, Check, Promotion
from api.problems import responses

router = APIRouter(prefix="/models/{name}/aliases", tags=["models"])
Name = Annotated[str, Path(description="A name that models have.")]
AliasName = Annotated[str, Path(description="Such as `prod`; it begins with a letter.")]


@router.get("", responses=responses(401, 404, 422, 503))
def list_aliases(database: DatabaseDep, owner: CurrentOwner, name: Name) -> AliasList:
    """In alphabetical order, each with its history."""
    return service.list_aliases(database, owner, name)


@router.get("/{alias}", responses=responses(401, 404, 422, 503))
def get_alias(database: DatabaseDep, owner: CurrentOwner, name: Name, alias: AliasName) -> Alias:
    """What it points to, and its history."""
    return service.get_alias(database, owner, name, alias)


@router.put("/{alias}", responses=responses(400, 401, 404, 408, 409, 413, 422, 503, 507))
def promote(
    database: DatabaseDep, owner: CurrentOwner, name: Name, alias: AliasName, promotion: Promotion
) -> Alias:
    """Point the alias to a model of this name, from one request to the next; it is made if it is new.

    To promote what it points to already changes nothing.
    """
    return service.promote(database, owner, name, alias, promotion)


@router.post("/{alias}/rollback", responses=responses(400, 401, 404, 408, 409, 413, 422, 503, 507))
def rollback(
    database: DatabaseDep, owner: CurrentOwner, name: Name, alias: AliasName, check: Check | None = None
) -> Alias:
    """Back to the model before the last promotion; again, and it is the one before that."""
    return service.rollback(database, owner, name, alias, check)


@router.delete("/{alias}", status_code=204, responses=responses(401, 404, 422, 503, 507))
def delete_alias(database: DatabaseDep, owner: CurrentOwner, name: Name, alias: AliasName) -> None:
    """Remove the alias and its history. The models stay."""
    service.delete_alias(database, owner, name, alias)
