"""/models/{name}/aliases: names such as `shoes@prod` for one version of a model, to promote and roll back."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from api.deps import TheDatabase, TheOwner
from api.problems import responses
from api.request_model import RequestModel
from core.store.registry import aliases
from core.store.registry.aliases import Expected, Pointer

router = APIRouter(prefix="/models/{name}/aliases", tags=["models"])
Name = Annotated[str, Path(description="A name that models have.")]
AliasName = Annotated[str, Path(description="Such as `prod`; it begins with a letter.")]

EXAMPLE: JsonDict = {
    "reference": "shoes@prod",
    "object": "alias",
    "name": "shoes",
    "alias": "prod",
    "model": "mdl_01m883zfhkxd2329sa0r05wkw7",
    "version": 3,
    "revision": 1,
    "history": [
        {
            "revision": 1,
            "action": "promoted",
            "model": "mdl_01m883zfhkxd2329sa0r05wkw7",
            "version": 3,
            "at": "2026-11-25T02:06:03.690667Z",
        }
    ],
}


class MoveOut(BaseModel):
    revision: int
    action: Literal["promoted", "rolled_back"]
    model: str
    version: int
    at: datetime


class AliasOut(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    reference: str
    object: Literal["alias"] = "alias"
    name: str
    alias: str
    model: str = Field(description="The id of the model that it points to.")
    version: int
    revision: int = Field(description="Grows by 1 with each move.")
    history: list[MoveOut] = Field(description="The last 100 moves, newest first.")

    @classmethod
    def of(cls, pointer: Pointer) -> "AliasOut":
        alias = pointer.alias
        return cls.model_validate(
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


class AliasList(BaseModel):
    data: list[AliasOut]


class Check(RequestModel):
    """What two people who promote at the same time send, so that neither undoes the other unknowingly."""

    expected: str | None = Field(
        None,
        max_length=600,
        description="The model that the alias is believed to point to (an id, `name@version`…), null: there "
        "is no such alias yet. If that is wrong nothing is changed (409). Left out: not checked.",
    )

    def expectation(self) -> Expected | None:
        return Expected(self.expected) if "expected" in self.model_fields_set else None


class Promotion(Check):
    model: str = Field(
        max_length=600, description="An id, `name` (its latest version), `name@version` or `name@alias`."
    )


@router.get("", responses=responses(401, 404, 422, 503))
def list_aliases(database: TheDatabase, owner: TheOwner, name: Name) -> AliasList:
    """In alphabetical order, each with its history."""
    with database.read() as session:
        return AliasList(data=[AliasOut.of(found) for found in aliases.list_all(session, name, owner=owner)])


@router.get("/{alias}", responses=responses(401, 404, 422, 503))
def get_alias(database: TheDatabase, owner: TheOwner, name: Name, alias: AliasName) -> AliasOut:
    """What it points to, and its history."""
    with database.read() as session:
        return AliasOut.of(aliases.get(session, name, alias, owner=owner))


@router.put("/{alias}", responses=responses(400, 401, 404, 408, 409, 413, 422, 503, 507))
def promote(
    database: TheDatabase, owner: TheOwner, name: Name, alias: AliasName, promotion: Promotion
) -> AliasOut:
    """Point the alias to a model of this name, from one request to the next; it is made if it is new.

    To promote what it points to already changes nothing.
    """
    with database.write() as session:
        pointer = aliases.promote(
            session, name, alias, promotion.model, owner=owner, expected=promotion.expectation()
        )
        return AliasOut.of(pointer)


@router.post("/{alias}/rollback", responses=responses(400, 401, 404, 408, 409, 413, 422, 503, 507))
def rollback(
    database: TheDatabase, owner: TheOwner, name: Name, alias: AliasName, check: Check | None = None
) -> AliasOut:
    """Back to the model before the last promotion; again, and it is the one before that."""
    expected = check.expectation() if check else None
    with database.write() as session:
        return AliasOut.of(aliases.rollback(session, name, alias, owner=owner, expected=expected))


@router.delete("/{alias}", status_code=204, responses=responses(401, 404, 422, 503, 507))
def delete_alias(database: TheDatabase, owner: TheOwner, name: Name, alias: AliasName) -> Response:
    """Remove the alias and its history. The models stay."""
    with database.write() as session:
        aliases.remove(session, name, alias, owner=owner)
    return Response(status_code=204)
