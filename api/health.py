"""Is it alive, and can it work? No key is asked for."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from api.deps import TheBlobs, TheDatabase, TheServing
from core.clip.errors import ClipCiteError
from core.store import queue

router = APIRouter(tags=["health"])
Part = Literal["ok", "degraded", "unavailable"]


class Alive(BaseModel):
    status: Literal["ok"] = "ok"


class PartReadiness(BaseModel):
    status: Part
    reason: str | None = None


class Readiness(BaseModel):
    status: Part
    parts: dict[str, PartReadiness]


@router.get("/healthz")
async def alive() -> Alive:
    """The process answers, also when all its threads are busy."""
    return Alive()


@router.get("/readyz", responses={503: {"model": Readiness}})
def ready(
    request: Request, response: Response, database: TheDatabase, blobs: TheBlobs, serving: TheServing
) -> Readiness:
    """503 unless database, storage and the default backbone are there. Without the broker it is
    `degraded`: jobs are taken and wait in the database."""
    checks = {"database": database.check, "storage": blobs.check, "backbone": serving.ready}
    parts = {}
    for name, check in checks.items():
        try:
            check()
            parts[name] = PartReadiness(status="ok")
        except ClipCiteError as error:
            parts[name] = PartReadiness(status="unavailable", reason=error.detail)
    try:
        queue.check(request.app.state.celery)
        parts["broker"] = PartReadiness(status="ok")
    except ClipCiteError as error:
        parts["broker"] = PartReadiness(status="degraded", reason=error.detail)
    worst: Part = "ok"
    for part in parts.values():
        if part.status == "unavailable" or (part.status == "degraded" and worst == "ok"):
            worst = part.status
    if worst == "unavailable":
        response.status_code = 503
    return Readiness(status=worst, parts=parts)
