"""Request and response schemas of aliases."""

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
    """Promotion or rollback of an alias."""

    revision: int
    action: Literal["promoted", "rolled_back"]
    model: str = Field(description="Id of the model that the alias pointed to afterwards.")
    version: int
    at: datetime


class Alias(BaseModel):
    """Pointer to a version of a model."""

    model_config = ConfigDict(json_schema_extra={"examples": [ALIAS_EXAMPLE]})

    reference: str = Field(description="`name@alias`.")
    object: Literal["alias"] = "alias"
    name: str
    alias: str
    model: str = Field(description="Id of the model that the alias points to.")
    version: int = Field(description="Version of that model.")
    revision: int = Field(description="Number of the last move, which grows by 1 per move.")
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


class AliasCheck(RequestModel):
    """Precondition that prevents lost updates when several people promote at the same time."""

    expected: str | None = Field(
        None,
        max_length=600,
        description="Model that the alias must point to now (id, `name@version` …), or null if the alias "
        "must not exist yet. Otherwise the response is 409 and nothing changes. Optional.",
    )

    def precondition(self) -> AliasPrecondition | None:
        return AliasPrecondition(self.expected) if "expected" in self.model_fields_set else None


class Promotion(AliasCheck):
    model: str = Field(
        max_length=600,
        description="Model to promote: id, `name` (the latest version), `name@version` or `name@alias`.",
    )
