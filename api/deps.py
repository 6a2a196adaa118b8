"""Dependencies of the routes: annotated types for their signatures.

The dependencies are coroutines, because FastAPI would run plain functions in its slower thread pool.
"""

from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request

from api.middleware.auth import Caller
from core.scratch import ScratchSpace
from core.serving.service import Serving
from core.store.db.session import Database
from core.store.storage.blobs import Blobs


def from_state(name: str) -> Any:
    """Return the dependency on a part of the application's state."""

    async def get(request: Request) -> Any:
        return getattr(request.app.state, name)

    return Depends(get)


async def _owner(request: Request) -> str:
    caller: Caller = request.state.caller
    return caller.owner


CurrentOwner = Annotated[str, Depends(_owner)]
DatabaseDep = Annotated[Database, from_state("database")]
BlobsDep = Annotated[Blobs, from_state("blobs")]
ServingDep = Annotated[Serving, from_state("serving")]
ScratchDep = Annotated[ScratchSpace, from_state("scratch")]
Limit = Annotated[int, Query(ge=1, le=100, description="Maximum number of items per page.")]
After = Annotated[str | None, Query(description="`next_cursor` of the previous page.")]
ModelRef = Annotated[
    str,
    Path(description="Model id, `name` (the latest version), `name@version` or `name@alias`."),
]
