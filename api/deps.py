"""Dependencies of the routes: annotated types for their signatures.

The dependencies are coroutines, because FastAPI would run plain functions in its slower thread pool.
"""

from typing import Annotated

from fastapi import Depends, Path, Query, Request

from api.middleware.auth import Caller
from core.scratch import ScratchSpace
from core.serving.service import Serving
from core.settings import Settings
from core.store.db.session import Database
from core.store.storage.blobs import Blobs


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def _blobs(request: Request) -> Blobs:
    blobs: Blobs = request.app.state.blobs
    return blobs


async def _serving(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


async def _scratch(request: Request) -> ScratchSpace:
    scratch: ScratchSpace = request.app.state.scratch
    return scratch


async def _owner(request: Request) -> str:
    caller: Caller = request.state.caller
    return caller.owner


CurrentOwner = Annotated[str, Depends(_owner)]
SettingsDep = Annotated[Settings, Depends(_settings)]
DatabaseDep = Annotated[Database, Depends(_database)]
BlobsDep = Annotated[Blobs, Depends(_blobs)]
ServingDep = Annotated[Serving, Depends(_serving)]
ScratchDep = Annotated[ScratchSpace, Depends(_scratch)]
Limit = Annotated[int, Query(ge=1, le=100, description="Maximum number of items per page.")]
After = Annotated[str | None, Query(description="`next_cursor` of the previous page.")]
ModelRef = Annotated[
    str,
    Path(description="Model id, `name` (the latest version), `name@version` or `name@alias`."),
]
