"""What routes ask for, so that their signatures read as sentences.

They are coroutines: FastAPI runs a plain function in a thread of its pool, which takes longer than these.
"""

from typing import Annotated

from fastapi import Depends, Path, Query, Request

from api.event_hub import EventHub
from api.middleware.auth import Caller
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


async def _feed(request: Request) -> EventHub:
    feed: EventHub = request.app.state.feed
    return feed


async def _owner(request: Request) -> str:
    caller: Caller = request.state.caller
    return caller.owner


CurrentOwner = Annotated[str, Depends(_owner)]
SettingsDep = Annotated[Settings, Depends(_settings)]
DatabaseDep = Annotated[Database, Depends(_database)]
BlobsDep = Annotated[Blobs, Depends(_blobs)]
ServingDep = Annotated[Serving, Depends(_serving)]
EventHubDep = Annotated[EventHub, Depends(_feed)]
Limit = Annotated[int, Query(ge=1, le=100, description="At most so many, newest first.")]
After = Annotated[str | None, Query(description="`next_cursor` of the page before.")]
ModelRef = Annotated[
    str,
    Path(description="A model's id, its name (the latest version), `name@version` or `name@alias`."),
]
