"""Aliases as the API shows them."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from api.request_model import RequestModel
from core.store.registry.aliases import AliasPrecondition, Pointer

ALIAS_EXAMPLE: JsonDict = {
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


class AliasMove(BaseModel):
    revision: int
    action: Literal["promoted", "rolled_back"]
    model: str
    version: int
    at: datetime


class Alias(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [ALIAS_EXAMPLE]})

    reference: str
    object: Literal["alias"] = "alias"
    name: str
    alias: str
    model: str = Field(description="The id of the model that it points to.")
    version: int
    revision: int = Field(description="Grows by 1 with each move.")
    history: list[AliasMove] = Field(description="The last 100 moves, newest first.")

    @classmethod
    def of(cls, pointer: Pointer) -> "Alias":
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
    data: list[Alias]


class Check(RequestModel):
    """What two people who promote at the same time send, so that neither undoes the other unknowingly."""

    expected: str | None = Field(
        None,
        max_length=600,
        description="The model that the alias is believed to point to (an id, `name@version`…), null: there "
        "is no such alias yet. If that is wrong nothing is changed (409). Left out: not checked.",
    )

    def precondition(self) -> AliasPrecondition | None:
        return AliasPrecondition(self.expected) if "expected" in self.model_fields_set else None


class Promotion(Check):
    model: str = Field(
        max_length=600, description="An id, `name` (its latest version), `name@version` or `name@alias`."
    )
