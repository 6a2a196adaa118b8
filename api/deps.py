"""What the process has, and the dependencies of the routes, as annotated types for their signatures.

Dependencies are coroutines, because FastAPI would run plain functions in its thread pool, which is slower.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request

from api.middleware.auth import Caller, OperatorOnly
from api.serving.service import Serving
from core.scratch import ScratchSpace
from core.settings import Settings
from core.store.db.session import Database
from core.store.storage.blobs import Blobs


@dataclass(frozen=True)
class Services:
    """Settings, database, storage, models for classification, and temporary files."""

    settings: Settings
    database: Database
    blobs: Blobs
    serving: Serving
    scratch: ScratchSpace


def from_state(name: str) -> Any:
    """Return a dependency on an attribute of the application's state."""

    async def get(request: Request) -> Any:
        return getattr(request.app.state, name)

    return Depends(get)


async def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


async def _owner(request: Request) -> str:
    return (await _caller(request)).owner


async def operator_only(request: Request) -> None:
    """Raise OperatorOnly unless the caller is the operator."""
    if not (await _caller(request)).is_operator:
        raise OperatorOnly(
            "This changes the service for all owners, so only its operator may do it. The operator uses a "
            "key of the owner default with the scope admin, CLIPCITE_ADMIN_KEY, or the token of a service "
            "without keys."
        )


CallerDep = Annotated[Caller, Depends(_caller)]
CurrentOwner = Annotated[str, Depends(_owner)]
DatabaseDep = Annotated[Database, from_state("database")]
BlobsDep = Annotated[Blobs, from_state("blobs")]
ServingDep = Annotated[Serving, from_state("serving")]
ServicesDep = Annotated[Services, from_state("services")]
ScratchDep = Annotated[ScratchSpace, from_state("scratch")]
Limit = Annotated[int, Query(ge=1, le=100, description="Maximum number of items per page.")]
After = Annotated[str | None, Query(description="`next_cursor` of the previous page.")]
ModelRef = Annotated[
    str,
    Path(description="Model id, `name` (the version in use), `name@version` or `name@alias`."),
]
